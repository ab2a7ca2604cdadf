//! Nodes as processes, and their signals.
#![cfg(unix)]

use std::time::Duration;

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
    let alike = ["heartbeats too slow", &by];
    assert_eq!(log.count(&alike), 0, "all have the same interval");
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

#[tokio::test]
async fn a_member_whose_heartbeats_are_too_slow_for_its_master_is_named_with_both_times() {
    let log = Log::captured();
    let master = master().cluster(|cluster| cluster.heartbeat(Duration::from_millis(200)));
    let master = Living::start(master).await;
    let slow = member(master.address()).cluster(|it| it.heartbeat(Duration::from_secs(1)));
    let slow = Living::start(slow).await;
    let returned = |address: &str| {
        let member = format!(" member=\"{address}\" ");
        log.count(&[
            "evicted member returned",
            &member,
            " eviction_timeout=800ms",
        ])
    };
    eventually("it is evicted again and again", || {
        returned(slow.address()) > 1
    })
    .await;
    let too_slow = |master: &str| {
        let master = format!(" master=\"{master}\" ");
        log.count(&["heartbeats too slow for the master", &master])
    };
    assert_eq!(too_slow(master.address()), 1);
    let times = [" interval=1s ", " eviction_timeout=800ms", "too slow"];
    assert_eq!(log.count(&times), 1);
}
