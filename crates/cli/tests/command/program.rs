//! The program as a process.

use std::process::Stdio;

use nano::testing::within;
#[cfg(unix)]
use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Ended {
    /// The standard output of a run without a failure.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The same, as JSON.
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// A run that failed with this code, and said this.
    pub(crate) fn failed(self, code: i32, says: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.errors.contains(says), "{self:?}");
    }
}

/// The program, without the variables of this process that it reads.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nano"));
    command
        .env_remove("NANO_ADMIN_TOKEN")
        .env_remove("NANO_ADMIN_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it with these arguments.
pub(crate) async fn nano(arguments: &[&str]) -> Ended {
    run(program().args(arguments), "").await
}

/// Runs it with an input.
pub(crate) async fn run(command: &mut Command, input: &str) -> Ended {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut process = command.spawn().unwrap();
    if let Some(mut stdin) = process.stdin.take() {
        // A program that has ended reads no more, and what it said tells why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    ended(process).await
}

/// Sends it a signal.
#[cfg(unix)]
pub(crate) fn signal(process: &Child, signal: Signal) {
    let id = process.id().and_then(|id| i32::try_from(id).ok());
    let id = id.and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}

/// Sends it a signal, and waits until it has ended.
#[cfg(unix)]
pub(crate) async fn interrupt(process: Child, signal: Signal) -> Ended {
    self::signal(&process, signal);
    ended(process).await
}

async fn ended(process: Child) -> Ended {
    let output = within("the end of the command", process.wait_with_output())
        .await
        .unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}
