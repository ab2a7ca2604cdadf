//! Nodes as processes, and the signals they get.
#![cfg(unix)]

use std::{env, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    nodes::{Living, master, member},
    support::{eventually, within},
};

const TOKEN: &str = "swordfish";

/// `examples/peer` as a member; killed when dropped.
struct Process {
    child: Child,
    address: String,
    /// Open as long as it may write.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn join(master: &str) -> Self {
        let test = env::current_exe().unwrap();
        let program = test.parent().unwrap().with_file_name("examples").join("peer");
        assert!(program.exists(), "`cargo test` builds it, `cargo test --test` does not; `cargo build --example peer` does");
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--master", master, "--hb", "300ms", "--label", "peer", "--services", "T,Echo"])
            .env("NANO_CLUSTER_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within("its address", lines.next_line()).await.unwrap().unwrap();
        let address = line.strip_prefix("serving nodes at ").unwrap().to_owned();
        Self { child, address, _lines: lines }
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.id().unwrap();
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status().await.unwrap();
        assert!(sent.success(), "{signal} not sent");
    }
}

#[tokio::test]
async fn a_member_leaves_on_sigterm_and_is_missed_on_sigkill() {
    let master = Living::start(master().cluster_token(TOKEN)).await;
    let mut polite = Process::join(master.address()).await;
    let mut killed = Process::join(master.address()).await;
    master.sees(&[&polite.address, &killed.address]).await;
    let seen = &master.handle().members()[0];
    assert_eq!((seen.label(), seen.services()), ("peer", ["Echo".to_owned(), "T".to_owned()].as_slice()));

    polite.signal("TERM").await;
    assert!(within("its end", polite.child.wait()).await.unwrap().success());
    assert_eq!(master.table(), [killed.address.as_str()], "it said goodbye first");
    killed.signal("KILL").await;
    within("its end", killed.child.wait()).await.unwrap();
    master.sees(&[]).await;
}

#[tokio::test]
async fn a_member_that_was_taken_for_dead_comes_back_by_itself() {
    let master = Living::start(master().cluster_token(TOKEN)).await;
    let stopped = Process::join(master.address()).await;
    let other = Living::start(member(master.address()).cluster_token(TOKEN)).await;
    other.sees(&[master.address(), &stopped.address]).await;
    stopped.signal("STOP").await;
    eventually("it is removed", || !other.table().contains(&stopped.address)).await;
    stopped.signal("CONT").await;
    eventually("it is back", || other.table().contains(&stopped.address) && master.table().contains(&stopped.address)).await;
}
