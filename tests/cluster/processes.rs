//! Nodes as processes, and the signals they get.
#![cfg(unix)]

use tokio::process::Command;

use crate::{
    nodes::{Living, master, member},
    support::{Peer, eventually, program},
};

const TOKEN: &str = "swordfish";

async fn join(master: &str) -> Peer {
    let mut command = Command::new(program());
    command.env("NANO_CLUSTER_TOKEN", TOKEN);
    Peer::launch(
        command,
        &[
            "--master",
            master,
            "--hb",
            "300ms",
            "--label",
            "peer",
            "--services",
            "T,Echo",
        ],
    )
    .await
}

#[tokio::test]
async fn a_member_leaves_on_sigterm_and_is_missed_on_sigkill() {
    let master = Living::start(master().cluster_token(TOKEN)).await;
    let polite = join(master.address()).await;
    let killed = join(master.address()).await;
    master.sees(&[&polite.node(), &killed.node()]).await;
    let seen = &master.handle().members()[0];
    assert_eq!(
        (seen.label(), seen.services()),
        ("peer", ["Echo".to_owned(), "T".to_owned()].as_slice())
    );

    assert!(polite.stop().await.status.success());
    assert_eq!(master.table(), [killed.node()], "it said goodbye first");
    killed.signal("KILL").await;
    killed.exited().await;
    master.sees(&[]).await;
}

#[tokio::test]
async fn a_member_that_was_taken_for_dead_comes_back_by_itself() {
    let master = Living::start(master().cluster_token(TOKEN)).await;
    let stopped = join(master.address()).await;
    let other = Living::start(member(master.address()).cluster_token(TOKEN)).await;
    other.sees(&[master.address(), &stopped.node()]).await;
    stopped.signal("STOP").await;
    eventually("it is removed", || !other.table().contains(&stopped.node())).await;
    stopped.signal("CONT").await;
    eventually("it is back", || {
        other.table().contains(&stopped.node()) && master.table().contains(&stopped.node())
    })
    .await;
}
