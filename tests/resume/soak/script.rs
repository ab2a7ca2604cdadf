//! The clients of `nano.js` in the soak: `tests/browser/soak_clients.mjs`, under Node.

use std::{path::Path, process::Stdio, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::oracle::Record;
use crate::harness::MINUTE;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

/// What it has to do.
#[derive(Serialize)]
pub(crate) struct Task {
    pub(crate) seconds: u64,
    pub(crate) players: Vec<Player>,
    /// Clients that lose their session.
    pub(crate) losers: Vec<Loser>,
}

#[derive(Serialize)]
pub(crate) struct Player {
    pub(crate) name: u32,
    pub(crate) url: String,
}

#[derive(Serialize)]
pub(crate) struct Loser {
    pub(crate) url: String,
    pub(crate) floods: bool,
}

/// What it has seen.
#[derive(Deserialize)]
pub(crate) struct Report {
    pub(crate) records: Vec<Record>,
    /// Why its losers have lost their sessions.
    pub(crate) lost: Vec<String>,
}

pub(crate) struct Script {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Script {
    /// Whether Node and the packages of the folder are here.
    pub(crate) fn can_run() -> bool {
        let mut node = std::process::Command::new("node");
        let node = node.arg("--version").stdout(Stdio::null()).status();
        node.is_ok_and(|it| it.success()) && Path::new(FOLDER).join("node_modules/ws").exists()
    }

    /// Starts it; returns when all players are connected.
    pub(crate) async fn start(task: &Task) -> Self {
        let mut child = Command::new("node")
            .arg("soak_clients.mjs")
            .current_dir(FOLDER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut script = Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        };
        script.say(task).await;
        assert_eq!(script.hears::<String>(MINUTE).await, "connected");
        script
    }

    pub(crate) async fn play(&mut self) {
        self.say("play").await;
    }

    /// Waits until the players have played, and the losers have lost their sessions.
    pub(crate) async fn played(&mut self) {
        assert_eq!(self.hears::<String>(MINUTE).await, "played");
    }

    /// Waits for the last messages, and for its end.
    pub(crate) async fn finish(mut self) -> Report {
        self.say("finish").await;
        let report = self.hears(MINUTE).await;
        let ended = timeout(MINUTE, self.child.wait()).await.unwrap();
        assert!(ended.unwrap().success());
        report
    }

    async fn say(&mut self, what: &(impl Serialize + ?Sized)) {
        let line = serde_json::to_string(what).unwrap() + "\n";
        self.input.write_all(line.as_bytes()).await.unwrap();
    }

    async fn hears<T: DeserializeOwned>(&mut self, time: Duration) -> T {
        let line = timeout(time, self.output.next_line()).await;
        let line = line.expect("the script is silent").unwrap();
        serde_json::from_str(&line.expect("the script has ended")).unwrap()
    }
}
