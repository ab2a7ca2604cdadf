//! `new`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

use nano::testing::within;
use serde_json::Value;

use crate::{
    image::Image,
    program::{program, run},
};

pub(crate) fn checkout() -> String {
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

/// A clone, as far as the command looks at it, and a project beside it.
async fn project_beside_a_clone(folder: &Path) -> PathBuf {
    let clone = folder.join("nano");
    fs::create_dir(&clone).unwrap();
    fs::copy(
        Path::new(&checkout()).join("Cargo.toml"),
        clone.join("Cargo.toml"),
    )
    .unwrap();
    let mut new = program();
    new.args(["new", "my-game", "--path", "nano"])
        .current_dir(folder);
    run(&mut new, "").await.ok();
    folder.join("my-game")
}

#[tokio::test]
async fn the_image_of_a_project_beside_a_clone_has_all_that_cargo_looks_for() {
    let folder = tempfile::tempdir().unwrap();
    let project = project_beside_a_clone(folder.path()).await;
    let manifest = fs::read_to_string(project.join("Cargo.toml")).unwrap();
    assert_eq!(
        manifest.matches("path = \"../nano\"").count(),
        2,
        "{manifest}"
    );
    let image = Image::build(&project, Path::new(&checkout()));
    let tree = image
        .cargo(&["tree", "--offline", "--edges", "normal"])
        .await;
    let copied = image.root().join("build/nano");
    assert!(
        tree.contains(&format!("nano-server v0.1.0 ({})", copied.display())),
        "{tree}"
    );
}

/// Checks this crate once more, for its folder is another one.
#[tokio::test]
#[ignore = "slow"]
async fn the_image_of_a_project_beside_a_clone_compiles() {
    let folder = tempfile::tempdir().unwrap();
    let project = project_beside_a_clone(folder.path()).await;
    let image = Image::build(&project, Path::new(&checkout()));
    image.cargo(&["check", "--offline"]).await;
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
    let built = target.join("debug/my-game");
    // Elsewhere there is no game.toml.
    let mut elsewhere = Command::new(&built);
    elsewhere
        .current_dir(folder.path())
        .env("NANO_CONFIG", project.join("game.toml"));
    for game in [Command::new(&built).current_dir(&project), &mut elsewhere] {
        let listener = ("NANO_LISTENERS_0_ADDRESS", "127.0.0.1:0");
        let game = Game::start(game, &[listener]).await;
        let actions = &game.node["actions"];
        for offered in ["log_filter", "warnings"] {
            assert_eq!(actions[offered], true, "{actions}");
        }
    }
    plays_with_the_samples(&built).await;
}

/// The game runs with the configurations of `deploy/config` as they are, but for the addresses.
async fn plays_with_the_samples(built: &Path) {
    let start = async |role: &str, variables: &[(&str, &str)]| {
        let config = Path::new(&checkout()).join(format!("deploy/config/{role}.toml"));
        let mut game = Command::new(built);
        game.arg("--config").arg(config).envs([
            ("NANO_CLUSTER_LISTEN", "127.0.0.1:0"),
            ("NANO_CLUSTER_TOKEN", "swordfish"),
        ]);
        Game::start(&mut game, variables).await
    };
    let master = start("master", &[]).await;
    let join = (
        "NANO_CLUSTER_JOIN",
        master.node["address"].as_str().unwrap(),
    );
    let backend = start("backend", &[join]).await;
    let listener = ("NANO_LISTENERS_0_ADDRESS", "127.0.0.1:0");
    let gate = start("gate", &[join, listener]).await;
    let services = [&master, &backend, &gate].map(|it| it.node["services"].to_string());
    for (services, offers) in services.iter().zip([false, true, false]) {
        for service in ["Lobby", "Room"] {
            assert_eq!(services.contains(service), offers, "{services}");
        }
    }
    let players = gate.players.as_ref().unwrap();
    let script =
        "request Lobby.Login {\"name\": \"Ann\"}\nrequest Room.Join {\"room\": \"blue\"}\n";
    let url = format!("ws://{players}/nano");
    let said = run(program().args(["repl", &url]), script).await.ok();
    assert!(said.contains("\"players\":1"), "{said}");
}

/// A node of the game as a process.
struct Game {
    _process: Child,
    /// Where players connect.
    players: Option<String>,
    /// What it tells of itself.
    node: Value,
}

impl Game {
    async fn start(game: &mut Command, variables: &[(&str, &str)]) -> Self {
        let mut process = game
            .env("NANO_ADMIN_ADDRESS", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut players = None;
        let address = loop {
            let line = within("the address", lines.next_line()).await.unwrap();
            let line = line.unwrap();
            if let Some(address) = line.strip_prefix("players connect at ") {
                players = Some(address.to_owned());
            }
            if let Some(address) = line.strip_prefix("operators look at http://") {
                break address.to_owned();
            }
        };
        Self {
            _process: process,
            players,
            node: node(&address).await,
        }
    }
}

/// What the node with this admin address tells of itself.
async fn node(address: &str) -> Value {
    let mut node = TcpStream::connect(&address).await.unwrap();
    let request =
        format!("GET /api/v1/node HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    node.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the answer", node.read_to_string(&mut answer))
        .await
        .unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}
