//! An example as a process.

use std::{
    env,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::within;

/// Killed when dropped.
pub(crate) struct Program {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub(crate) fn start(example: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(path_of(example));
        command.args(arguments).env_remove("NANO_CLUSTER_TOKEN").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// What it says next.
    pub(crate) async fn line(&mut self) -> String {
        let line = within("a line of an example", self.lines.next_line()).await.unwrap();
        line.expect("the example has ended")
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        signal("TERM", self.process.id().unwrap()).await;
        within("the end of an example", self.process.wait()).await.unwrap()
    }
}

pub(crate) async fn signal(name: &str, process: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status().await.unwrap();
    assert!(sent.success(), "SIG{name} not sent");
}

/// Examples are built beside tests: `target/<profile>/examples` and `target/<profile>/deps`.
fn path_of(example: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name("examples").join(format!("{example}{}", env::consts::EXE_SUFFIX));
    assert!(program.exists(), "no {}: `cargo build --example {example}` builds it, as `cargo test` does", program.display());
    program
}
