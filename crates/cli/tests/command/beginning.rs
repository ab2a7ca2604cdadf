//! `new`.

use std::{env, fs, path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
};

use nano::testing::within;

use crate::program::{program, run};

fn checkout() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_project_is_made_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let new = async |arguments: &[&str]| {
        run(
            program()
                .arg("new")
                .args(arguments)
                .current_dir(folder.path()),
            "",
        )
        .await
    };
    new(&["my-game"]).await.ok();
    let manifest = fs::read_to_string(folder.path().join("my-game/Cargo.toml")).unwrap();
    assert!(manifest.contains(&checkout()), "{manifest}");
    new(&["my-game"]).await.failed(2, "there already");
    new(&["My Game"]).await.failed(2, "no name for a project");
    new(&["../game"]).await.failed(2, "no name for a project");
    new(&["fn"]).await.failed(2, "something else");
    new(&["game", "--path", "."]).await.failed(2, "no checkout");
    assert!(!folder.path().join("game").exists());
}

/// Builds all of its dependencies, unless they are in the target directory of this workspace.
#[tokio::test]
#[ignore = "slow"]
async fn a_new_project_passes_its_tests_and_its_lints() {
    let folder = tempfile::tempdir().unwrap();
    let mut new = program();
    new.args(["new", "my-game", "--path", &checkout()])
        .current_dir(folder.path());
    run(&mut new, "").await.ok();
    let project = folder.path().join("my-game");
    // The versions that were tested, without a network.
    fs::copy(
        Path::new(&checkout()).join("Cargo.lock"),
        project.join("Cargo.lock"),
    )
    .unwrap();
    let target = Path::new(env!("CARGO_BIN_EXE_nano"))
        .ancestors()
        .nth(2)
        .unwrap();
    for arguments in [
        &["fmt", "--check"][..],
        &["test"],
        &["clippy", "--all-targets", "--", "-D", "warnings"],
    ] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(arguments)
            .current_dir(&project)
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_NET_OFFLINE", "true")
            .stdin(Stdio::null());
        let output = cargo.output().await.unwrap();
        assert!(
            output.status.success(),
            "cargo {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let program = target.join("debug/my-game");
    // Elsewhere there is no game.toml.
    let mut elsewhere = Command::new(&program);
    elsewhere
        .current_dir(folder.path())
        .env("NANO_CONFIG", project.join("game.toml"));
    for game in [Command::new(&program).current_dir(&project), &mut elsewhere] {
        let actions = actions(game).await;
        for offered in ["\"log_filter\":true", "\"warnings\":true"] {
            assert!(actions.contains(offered), "{actions}");
        }
    }
}

/// Starts the game, and returns what its node tells of itself.
async fn actions(game: &mut Command) -> String {
    let mut game = game
        .env("NANO_LISTENERS_0_ADDRESS", "127.0.0.1:0")
        .env("NANO_ADMIN_ADDRESS", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(game.stdout.take().unwrap()).lines();
    let address = loop {
        let line = within("the address", lines.next_line()).await.unwrap();
        if let Some(address) = line.unwrap().strip_prefix("operators look at http://") {
            break address.to_owned();
        }
    };
    let mut node = TcpStream::connect(&address).await.unwrap();
    let request =
        format!("GET /api/v1/node HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    node.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the answer", node.read_to_string(&mut answer))
        .await
        .unwrap();
    answer
}
