//! Promise 2 through a gate: every request ends, whatever becomes of the member that has it.

use std::{net::TcpListener, time::Duration};

use tokio::time::Instant;

use crate::{
    load::Load,
    support::{eventually, within},
    world::{REQUEST_TIMEOUT, backend, free_address, house, house_of, is_known, master},
};

const CLIENTS: usize = 20;

/// What the machine may add to a timeout.
const SLACK: Duration = Duration::from_secs(2);

/// Four missed heartbeats, and as much again for busy machines.
const GIVEN_UP: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_ends_when_a_member_is_killed() {
    let house = house(&[], |app| app).await;
    let (survivor, victim) = (backend(&house.master).await, backend(&house.master).await);
    house.gate.knows(3).await;
    let load = Load::start(house.gate.node.addresses()[0], CLIENTS).await;
    load.goes_on(500).await;

    let killed = Instant::now();
    victim.signal("KILL").await;
    let address = victim.address.to_string();
    is_known(&address, false, &[&house.master, &house.gate]).await;
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
    let house = house(&[], |app| app).await;
    let (survivor, victim) = (backend(&house.master).await, backend(&house.master).await);
    house.gate.knows(3).await;
    let load = Load::start(house.gate.node.addresses()[0], CLIENTS).await;
    load.goes_on(500).await;

    victim.signal("STOP").await;
    let address = victim.address.to_string();
    is_known(&address, false, &[&house.master, &house.gate]).await;
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

    // It answers late what nobody waits for any more, and is a member again.
    victim.signal("CONT").await;
    is_known(&address, true, &[&house.master, &house.gate]).await;
    let load = Load::start(house.gate.node.addresses()[0], CLIENTS).await;
    load.goes_on(500).await;
    load.stop().await;
    drop(survivor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_the_master_is_started_again() {
    let address = free_address();
    let mut house = house_of(master(&address).await, &[], |app| app).await;
    let backends = [backend(&house.master).await, backend(&house.master).await];
    house.gate.knows(3).await;
    let load = Load::start(house.gate.node.addresses()[0], CLIENTS).await;
    load.goes_on(300).await;

    house.master.kill();
    eventually("its address to be free", || {
        TcpListener::bind(&address).is_ok()
    })
    .await;
    load.goes_on(300).await;
    let client = house.gate.client().await;
    assert_eq!(
        within("new sessions are served", client.request_raw("T.Bind", "7"))
            .await
            .unwrap(),
        "bound"
    );

    house.master = master(&address).await;
    house.master.knows(3).await;
    for member in &backends {
        is_known(
            &member.address.to_string(),
            true,
            &[&house.master, &house.gate],
        )
        .await;
    }
    let again = backend(&house.master).await;
    is_known(&again.address.to_string(), true, &[&house.gate]).await;
    load.goes_on(300).await;
    let outcome = load.stop().await;
    assert!(
        outcome.failed.is_empty(),
        "traffic does not pass through the master: {outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_when_the_members_are_restarted_one_after_the_other() {
    let house = house(&[], |app| app).await;
    let mut backends = vec![backend(&house.master).await, backend(&house.master).await];
    house.gate.knows(3).await;
    let load = Load::start(house.gate.node.addresses()[0], CLIENTS).await;
    load.goes_on(300).await;

    for _ in 0..2 {
        let old = backends.remove(0);
        let new = backend(&house.master).await;
        is_known(&new.address.to_string(), true, &[&house.gate]).await;
        backends.push(new);
        let exit = old.stop().await;
        assert!(exit.status.success(), "{}", exit.stderr);
        load.goes_on(300).await;
    }
    let outcome = load.stop().await;
    assert!(outcome.failed.is_empty(), "{outcome:?}");
}
