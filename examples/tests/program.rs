//! An example as a process.

use std::{
    env, fs,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{eventually, within};

/// Killed when dropped.
pub(crate) struct Program {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub(crate) fn start(example: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(path_of(example));
        command
            .args(arguments)
            .env_remove("NANO_CLUSTER_TOKEN")
            .kill_on_drop(true);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// What it says next.
    pub(crate) async fn line(&mut self) -> String {
        let line = within("a line of an example", self.lines.next_line())
            .await
            .unwrap();
        line.expect("the example has ended")
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        let process = self.process.id().unwrap();
        // What it says last, it says just before it listens to signals; one that comes earlier ends
        // it without a word.
        eventually("an example that can be stopped", || {
            catches_termination(process)
        })
        .await;
        signal("TERM", process).await;
        within("the end of an example", self.process.wait())
            .await
            .unwrap()
    }
}

pub(crate) async fn signal(name: &str, process: u32) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {process}")])
        .status()
        .await
        .unwrap();
    assert!(sent.success(), "SIG{name} not sent");
}

/// From `/proc` on Linux; assumed elsewhere.
fn catches_termination(process: u32) -> bool {
    const SIGTERM: u64 = 1 << (15 - 1);
    let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else {
        return true;
    };
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & SIGTERM != 0
}

/// Examples are built beside tests: `target/<profile>/examples` and `target/<profile>/deps`.
fn path_of(example: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let program = test
        .parent()
        .unwrap()
        .with_file_name("examples")
        .join(format!("{example}{}", env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "no {}: `cargo build --example {example}` builds it, as `cargo test` does",
        program.display()
    );
    program
}
