//! Promise 2 through a gate: every request ends, whatever becomes of the member that has it.

use std::{net::TcpListener, time::Duration};

use tokio::time::Instant;

use crate::{
    cluster::{REQUEST_TIMEOUT, backend, cluster, cluster_of, free_address, is_known, master},
    load::Load,
    support::{eventually, within},
};

const CLIENTS: usize = 20;

/// What the node may add to a timeout.
const SLACK: Duration = Duration::from_secs(2);

/// Four missed heartbeats, and as much again for busy machines.
const GIVEN_UP: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_ends_when_a_member_is_killed() {
    let cluster = cluster(&[], |app| app).await;
    let (survivor, victim) = (
        backend(&cluster.master).await,
        backend(&cluster.master).await,
    );
    cluster.gate.knows(3).await;
    let load = Load::start(cluster.gate.client_address(), CLIENTS).await;
    load.goes_on(500).await;

    let killed = Instant::now();
    victim.signal("KILL").await;
    let address = victim.address.to_string();
    is_known(&address, false, &[&cluster.master, &cluster.gate]).await;
    assert!(
        killed.elapsed() < GIVEN_UP,
        "out of every table within seconds: {:?}",
        killed.elapsed()
    );
    load.goes_on(500).await;
    let outcome = load.stop().await;
    assert!(
        outcome.unavailable() > 0,
        "some were under way to it: {outcome:?}"
    );
    assert!(
        outcome.slowest < REQUEST_TIMEOUT,
        "its requests ended with it: {outcome:?}"
    );
    drop(survivor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_ends_when_a_member_hangs() {
    let cluster = cluster(&[], |app| app).await;
    let (survivor, victim) = (
        backend(&cluster.master).await,
        backend(&cluster.master).await,
    );
    cluster.gate.knows(3).await;
    let load = Load::start(cluster.gate.client_address(), CLIENTS).await;
    load.goes_on(500).await;

    victim.signal("STOP").await;
    let address = victim.address.to_string();
    is_known(&address, false, &[&cluster.master, &cluster.gate]).await;
    load.goes_on(500).await;
    let outcome = load.stop().await;
    assert!(
        outcome.unavailable() > 0,
        "some were under way to it: {outcome:?}"
    );
    assert!(
        outcome.slowest < REQUEST_TIMEOUT + SLACK,
        "nothing waits longer than its timeout: {outcome:?}"
    );

    // Its late answers are dropped, and it is a member again.
    victim.signal("CONT").await;
    is_known(&address, true, &[&cluster.master, &cluster.gate]).await;
    let load = Load::start(cluster.gate.client_address(), CLIENTS).await;
    load.goes_on(500).await;
    load.stop().await;
    drop(survivor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_the_master_is_started_again() {
    let address = free_address();
    let mut cluster = cluster_of(master(&address).await, &[], |app| app).await;
    let backends = [
        backend(&cluster.master).await,
        backend(&cluster.master).await,
    ];
    cluster.gate.knows(3).await;
    let load = Load::start(cluster.gate.client_address(), CLIENTS).await;
    load.goes_on(300).await;

    cluster.master.kill();
    eventually("its address to be free", || {
        TcpListener::bind(&address).is_ok()
    })
    .await;
    load.goes_on(300).await;
    let client = cluster.client().await;
    assert_eq!(
        within("new sessions are served", client.request_raw("T.Bind", "7"))
            .await
            .unwrap(),
        "bound"
    );

    cluster.master = master(&address).await;
    cluster.master.knows(3).await;
    for member in &backends {
        is_known(
            &member.address.to_string(),
            true,
            &[&cluster.master, &cluster.gate],
        )
        .await;
    }
    let again = backend(&cluster.master).await;
    is_known(&again.address.to_string(), true, &[&cluster.gate]).await;
    load.goes_on(300).await;
    let outcome = load.stop().await;
    assert!(
        outcome.failed.is_empty(),
        "traffic does not pass through the master: {outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_when_the_members_are_restarted_one_after_the_other() {
    let cluster = cluster(&[], |app| app).await;
    let mut backends = vec![
        backend(&cluster.master).await,
        backend(&cluster.master).await,
    ];
    cluster.gate.knows(3).await;
    let load = Load::start(cluster.gate.client_address(), CLIENTS).await;
    load.goes_on(300).await;

    for _ in 0..2 {
        let old = backends.remove(0);
        let new = backend(&cluster.master).await;
        is_known(&new.address.to_string(), true, &[&cluster.gate]).await;
        backends.push(new);
        let exit = old.stop().await;
        assert!(exit.status.success(), "{}", exit.stderr);
        load.goes_on(300).await;
    }
    let outcome = load.stop().await;
    assert!(outcome.failed.is_empty(), "{outcome:?}");
}
