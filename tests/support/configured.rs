use std::{fs, path::PathBuf, process::Stdio, str::FromStr};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::support::{program, within};

/// The recorded server by a configuration that changes, in a process of its own. It is killed when
/// dropped.
pub(crate) struct Configured {
    folder: TempDir,
    /// What is in the file beside the text of each test.
    rest: &'static str,
    process: Child,
    /// The first line that it has printed: an address.
    printed: String,
    log: Lines<BufReader<ChildStderr>>,
}

impl Configured {
    /// Starts it with this text as its configuration, followed by `rest`; ready when this returns.
    pub(crate) async fn start(text: &str, rest: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, text, rest);
        let mut process = command(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = within("the address", output.next_line()).await.unwrap();
        Self {
            rest,
            printed: line.unwrap(),
            log: BufReader::new(process.stderr.take().unwrap()).lines(),
            process,
            folder,
        }
    }

    /// Runs it with this configuration to its end, and returns its log.
    pub(crate) async fn refused(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, text, "");
        let ended = within("the end of the program", command(&folder).output());
        let ended = ended.await.unwrap();
        assert!(!ended.status.success());
        String::from_utf8(ended.stderr).unwrap()
    }

    /// The address that it has printed behind this text.
    pub(crate) fn address<T: FromStr>(&self, text: &str) -> T {
        let address = self.printed.strip_prefix(text);
        let address = address.and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("no {text}: {}", self.printed))
    }

    /// Changes the configuration, and lets it be read again.
    pub(crate) async fn reload(&self, text: &str) {
        write(&self.folder, text, self.rest);
        let id = self.process.id().unwrap().to_string();
        let mut kill = Command::new("kill");
        assert!(kill.args(["-HUP", &id]).status().await.unwrap().success());
    }

    /// The next line of its log.
    pub(crate) async fn line(&mut self) -> String {
        let line = within("a line of the log", self.log.next_line()).await;
        line.unwrap().unwrap()
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("node.toml")
}

fn write(folder: &TempDir, text: &str, rest: &str) {
    fs::write(file(folder), format!("{text}\n{rest}")).unwrap();
}

fn command(folder: &TempDir) -> Command {
    let mut command = Command::new(program());
    command.arg("--config").arg(file(folder)).kill_on_drop(true);
    command
}
