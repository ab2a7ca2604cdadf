//! Nodes as processes, and their signals.
#![cfg(unix)]

use tokio::process::Command;

use crate::{
    log::Log,
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
async fn a_member_unregisters_on_sigterm_and_is_evicted_after_sigkill() {
    let log = Log::captured();
    let master = Living::start(master().token(TOKEN)).await;
    let polite = join(master.address()).await;
    let killed = join(master.address()).await;
    let other = Living::start(member(master.address()).token(TOKEN)).await;
    let nodes = (polite.node(), killed.node());
    master.sees(&[&nodes.0, &nodes.1, other.address()]).await;
    other.sees(&[master.address(), &nodes.0, &nodes.1]).await;
    let seen = &master.handle().members()[0];
    assert_eq!(
        (seen.label(), seen.services()),
        ("peer", ["Echo".to_owned(), "T".to_owned()].as_slice())
    );

    assert!(polite.stop().await.status.success());
    assert_eq!(
        master.table(),
        [&*nodes.1, other.address()],
        "it unregistered first"
    );
    killed.signal("KILL").await;
    killed.exited().await;
    master.sees(&[other.address()]).await;

    // The log of each member says which of them was evicted.
    let evicted = |member: &str, more| {
        let member = format!(" member=\"{member}\" ");
        log.count(&["member evicted", &member, r#" label="peer""#, more])
    };
    let by = format!(" master=\"{}\"", master.address());
    eventually("the eviction is logged", || evicted(&nodes.1, &by) == 1).await;
    assert_eq!(evicted(&nodes.1, ""), 2, "by the master too");
    assert_eq!(evicted(&nodes.0, ""), 0);
}

#[tokio::test]
async fn an_evicted_member_that_resumes_joins_again() {
    let master = Living::start(master().token(TOKEN)).await;
    let stopped = join(master.address()).await;
    let other = Living::start(member(master.address()).token(TOKEN)).await;
    other.sees(&[master.address(), &stopped.node()]).await;
    stopped.signal("STOP").await;
    eventually("it is evicted", || !other.table().contains(&stopped.node())).await;
    stopped.signal("CONT").await;
    eventually("it is back", || {
        other.table().contains(&stopped.node()) && master.table().contains(&stopped.node())
    })
    .await;
}
