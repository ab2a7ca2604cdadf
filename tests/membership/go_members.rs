//! Go members in the cluster of a master of this crate.

use tokio::time::{Instant, sleep, timeout};

use crate::{
    go::{Call, GoNode},
    nodes::{HEARTBEAT, Living, free_address, master, member, serving},
    support::{eventually, within},
};

/// A silent Go member is evicted on the first tick after four of its heartbeats.
#[tokio::test]
async fn a_silent_go_member_is_evicted_after_four_heartbeats() {
    let master = Living::start(serving(master(), &["MasterT"])).await;
    let (observer, dies) = (
        GoNode::join(master.address(), &["Obs"], HEARTBEAT).await,
        GoNode::start().await,
    );
    dies.register(master.address(), dies.info("", &["Echo"]))
        .await
        .unwrap();
    let last_heartbeat = Instant::now();
    eventually("both announcements", || observer.calls().len() == 2).await;
    let took = last_heartbeat.elapsed();
    assert_eq!(
        observer.calls(),
        [
            Call::New(dies.info("", &["Echo"])),
            Call::Del(dies.address.clone())
        ]
    );
    assert!(took >= HEARTBEAT * 4 && took < HEARTBEAT * 8, "{took:?}");
}

/// A Go member appends every join, and still loses a member that registered twice and left.
#[tokio::test]
async fn a_member_that_registered_twice_leaves_no_stale_entry() {
    let master = Living::start(master()).await;
    let (gate, a) = (
        GoNode::join(master.address(), &["T"], HEARTBEAT).await,
        GoNode::start().await,
    );
    for _ in 0..2 {
        a.register(master.address(), a.info("", &["Fake"]))
            .await
            .unwrap();
    }
    a.leave(master.address()).await;
    eventually("the announced leave", || {
        gate.calls().last() == Some(&Call::Del(a.address.clone()))
    })
    .await;
    assert_eq!(gate.table(), [master.address()]);
}

#[tokio::test]
async fn dead_and_hung_members_delay_no_other() {
    let master = Living::start(master()).await;
    let observer = GoNode::join(master.address(), &["Obs"], HEARTBEAT).await;
    let (hung, mut dead) = (
        GoNode::join(master.address(), &["Hung"], HEARTBEAT).await,
        Vec::new(),
    );
    hung.hang();
    for _ in 0..2 {
        let dies = GoNode::start().await;
        dies.register(master.address(), dies.info("", &["Dead"]))
            .await
            .unwrap();
        dead.push(dies.address.clone());
    }
    let rust = timeout(HEARTBEAT * 2, Living::start(member(master.address())))
        .await
        .expect("joining waits for no other member");
    eventually("the observer has the new member", || {
        observer.table().contains(&rust.address().to_owned())
    })
    .await;
    eventually("the dead members are evicted", || {
        !dead
            .iter()
            .any(|dead| master.table().contains(dead) || observer.table().contains(dead))
    })
    .await;
    assert_eq!(
        observer.table(),
        [master.address(), &hung.address, rust.address()],
        "once each"
    );
    assert!(
        master.table().contains(&hung.address),
        "its heartbeats go on"
    );
}

/// An evicted Go member that sends heartbeats again is announced, and sent what it missed.
#[tokio::test]
async fn a_go_member_that_returns_is_announced_and_caught_up() {
    let master = Living::start(master()).await;
    let gate = GoNode::join(master.address(), &["T"], HEARTBEAT).await;
    let leaves = GoNode::join(master.address(), &["Old"], HEARTBEAT).await;
    let a = GoNode::join(master.address(), &["Fake"], HEARTBEAT).await;
    let rust = Living::start(member(master.address())).await;
    eventually("it has all members", || a.table().len() == 4).await;
    a.fall_silent();
    eventually("it is evicted", || {
        !gate.table().contains(&a.address) && !rust.table().contains(&a.address)
    })
    .await;
    leaves.fall_silent();
    eventually("another member is evicted", || {
        !gate.table().contains(&leaves.address)
    })
    .await;
    let new = Living::start(member(master.address())).await;

    a.show_life(master.address(), a.info("", &["Fake"]), HEARTBEAT);
    eventually("it is announced", || {
        gate.table().contains(&a.address) && rust.table().contains(&a.address)
    })
    .await;
    let sorted = |mut table: Vec<String>| {
        table.sort();
        table
    };
    let all = sorted(
        [
            master.address(),
            &gate.address,
            rust.address(),
            new.address(),
        ]
        .map(str::to_owned)
        .to_vec(),
    );
    eventually("it has all members, once each", || sorted(a.table()) == all).await;
    assert_eq!(
        gate.table()
            .iter()
            .filter(|address| **address == a.address)
            .count(),
        1
    );
}

/// After a restart of the master every member learns of every other.
#[tokio::test]
async fn members_find_each_other_after_a_restart_of_the_master() {
    let address = free_address();
    let first = Living::start(serving(master().listen(&address), &["MasterT"])).await;
    let rust = Living::start(serving(member(&address), &["Echo"])).await;
    let observer = GoNode::join(&address, &["Obs"], HEARTBEAT).await;
    first.kill().await;
    sleep(HEARTBEAT).await;
    let second = Living::start(serving(master().listen(&address), &["MasterT"])).await;
    let new = within(
        "a registration before the other members call",
        GoNode::join(&address, &["New"], HEARTBEAT),
    )
    .await;
    let sorted = |mut table: Vec<String>| {
        table.sort();
        table
    };
    let all = [&address, rust.address(), &new.address, &observer.address];
    for (own, table) in [
        (
            rust.address(),
            Box::new(|| rust.table()) as Box<dyn Fn() -> Vec<String>>,
        ),
        (&new.address, Box::new(|| new.table())),
        (&observer.address, Box::new(|| observer.table())),
        (&address, Box::new(|| second.table())),
    ] {
        let others = sorted(
            all.iter()
                .filter(|address| **address != own)
                .map(|&address| address.to_owned())
                .collect(),
        );
        eventually("every member has every other once", || {
            sorted(table()) == others
        })
        .await;
    }
}
