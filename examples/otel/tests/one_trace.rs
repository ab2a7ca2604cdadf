//! What the example prints is one trace.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

#[test]
fn the_spans_of_all_nodes_are_one_tree() {
    let output = Command::new(env!("CARGO_BIN_EXE_nano-otel"))
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = printed
        .lines()
        .map(|line| line.split(" node=").next().unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            "bought for 30",
            "trace 4bf92f3577b34da6a3ce929d0e0e4736, child of 00f067aa0ba902b7",
            "  gate route=Room.Buy outcome=ok",
            "    handler route=Room.Buy outcome=ok",
            "      check inventory",
            "      call route=Store.Price outcome=ok",
            "        handler route=Store.Price outcome=ok",
        ],
        "{printed}\n{errors}"
    );
    let mut nodes: Vec<_> = printed
        .lines()
        .filter_map(|line| Some(line.split_once(" node=")?.1))
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), 3, "{printed}");
}
