//! The log of a program that `Config::start_logs` has started: what it writes, and what its operators
//! see and change.

use std::{fs, net::SocketAddr, path::PathBuf, process::Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::{
    http::{act, get},
    support::{program, within},
};

/// A node of its own process, by a configuration that changes.
struct Program {
    _folder: TempDir,
    file: PathBuf,
    process: Child,
    log: Lines<BufReader<ChildStderr>>,
    admin: SocketAddr,
}

impl Program {
    async fn start(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        write(&file, options);
        let mut process = Command::new(program())
            .args(["--config", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = within("the address", output.next_line()).await.unwrap();
        let address = line.as_deref().unwrap().split("serving operators at ");
        Self {
            admin: address.last().unwrap().parse().unwrap(),
            log: BufReader::new(process.stderr.take().unwrap()).lines(),
            _folder: folder,
            file,
            process,
        }
    }

    async fn hang_up(&self) {
        let id = self.process.id().unwrap().to_string();
        let mut kill = Command::new("kill");
        assert!(kill.args(["-HUP", &id]).status().await.unwrap().success());
    }

    /// The next line of its log.
    async fn line(&mut self) -> String {
        let line = within("a line of the log", self.log.next_line()).await;
        line.unwrap().unwrap()
    }

    /// Waits until its log filter is this one.
    async fn has_filter(&self, filter: &str) {
        let changed = async {
            while get(self.admin, "/api/v1/node").await.ok()["log_filter"] != filter {
                tokio::task::yield_now().await;
            }
        };
        within("the log filter", changed).await;
    }
}

fn write(file: &PathBuf, options: &str) {
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"secret\"\n";
    fs::write(file, format!("{options}\n{admin}")).unwrap();
}

#[tokio::test]
async fn operators_see_warnings_and_change_the_filter_until_the_next_reload() {
    let mut node = Program::start("log = \"error\"\nlog_format = \"json\"").await;
    node.has_filter("error").await;
    // Warnings are collected, though the filter keeps them from the log.
    write(&node.file, "log = \"error\"\nlog_format = \"text\"");
    node.hang_up().await;
    let warned = async {
        loop {
            let warnings = get(node.admin, "/api/v1/warnings").await.ok();
            if let Some(warning) = warnings["warnings"].get(0) {
                break warning["fields"].to_string();
            }
        }
    };
    let fields = within("a warning", warned).await;
    assert!(fields.contains("log_format"), "{fields}");

    let change = async |filter: &str| {
        let body = format!("{{\"filter\":{filter:?}}}");
        act(node.admin, "/api/v1/log-filter", &body).await
    };
    let changed = change("info").await.ok();
    let ends = [&changed["before"], &changed["current"]];
    assert_eq!(ends, ["error", "info"]);
    assert_eq!(change("nano=loud").await.status, 400);
    let line = node.line().await;
    let logged: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(logged["message"], "admin: log filter changed", "{line}");
    assert_eq!(
        (&logged["level"], &logged["filter"]),
        (&"INFO".into(), &"info".into())
    );

    write(&node.file, "log = \"warn\"\nlog_format = \"json\"");
    node.hang_up().await;
    node.has_filter("warn").await;
}

#[tokio::test]
async fn a_reload_that_the_application_refuses_leaves_the_filter_as_it_was() {
    let mut node = Program::start("log = \"error\"").await;
    node.has_filter("error").await;
    write(&node.file, "log = \"debug\"\n[app]\nrefuse = \"not today\"");
    node.hang_up().await;
    let line = node.line().await;
    assert!(line.contains("configuration not reloaded"), "{line}");
    assert!(line.contains("not today"), "{line}");
    let current = get(node.admin, "/api/v1/node").await.ok();
    assert_eq!(current["log_filter"], "error");
}

#[tokio::test]
async fn text_has_no_colours_where_the_log_is_no_terminal() {
    let mut node = Program::start("log = \"info\"").await;
    let line = node.line().await;
    assert!(line.contains(" INFO "), "{line}");
    assert!(!line.contains('\u{1b}'), "{line}");
}

#[tokio::test]
async fn a_filter_that_names_no_level_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    write(&file, "log = \"inof\"");
    let ended = Command::new(program())
        .args(["--config", file.to_str().unwrap()])
        .kill_on_drop(true)
        .output();
    let ended = within("the end of the program", ended).await.unwrap();
    assert!(!ended.status.success());
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(
        error.contains("log: ") && error.contains("did you mean info?"),
        "{error}"
    );
}
