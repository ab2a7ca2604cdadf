//! `examples/filters.rs`.

use crate::program::Program;

#[tokio::test]
async fn the_program_shows_what_filters_do() {
    let mut program = Program::start("filters", &["127.0.0.1:0"]);
    for expected in [
        "Shop.Buy: NANO-403: log in first",
        "Account.Login: player 5",
        "Shop.Buy: NANO-400: from 1 to 99 at a time",
        "Shop.Buy: 2 of item 1",
        "Shop.Report: NANO-408: the handler took too long",
    ] {
        assert_eq!(program.line().await, expected);
    }
    let line = program.line().await;
    assert!(
        line.starts_with("clients connect at tcp://127.0.0.1:"),
        "{line}"
    );
    assert!(program.stop().await.success());
}
