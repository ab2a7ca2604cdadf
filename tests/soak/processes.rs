//! A whole cluster of processes.

use tokio::time::Instant;

use crate::{
    cluster::{ALONE, REQUEST_TIMEOUT, all_know_all, free_address},
    load::Load,
    support::Peer,
};

async fn node(role: &[&str]) -> Peer {
    let always = [
        "--client",
        "127.0.0.1:0",
        "--hb",
        "1s",
        "--retry",
        "250ms",
        "--request-timeout",
        "5s",
    ];
    Peer::start(&[&always, role].concat()).await
}

async fn master(address: &str) -> Peer {
    node(&["--is-master", "--listen", address, "--services", "M=T"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow"]
async fn traffic_goes_on_while_the_master_is_killed_and_started_again() {
    let _alone = ALONE.lock().await;
    let address = free_address();
    let mut first = master(&address).await;
    let join = async |services: &str| node(&["--master", &address, "--services", services]).await;
    let gate = join("G=T").await;
    let mut nodes = vec![join("A=T,T").await, join("B=T,T").await];
    let mut members = vec![
        ("G", gate.address),
        ("A", nodes[0].address),
        ("B", nodes[1].address),
    ];
    let load = Load::start(gate.address, 20).await;
    for name in ["C", "D", "E"] {
        load.goes_on(300).await;
        first.signal("KILL").await;
        first.exited().await;
        // Longer than members may be silent.
        let killed = Instant::now();
        while killed.elapsed() < REQUEST_TIMEOUT {
            all_know_all(&members).await;
            load.goes_on(100).await;
        }
        first = master(&address).await;
        let late = join(&format!("{name}=T")).await;
        members.push((name, late.address));
        nodes.push(late);
        all_know_all(&[&[("M", first.address)], &members[..]].concat()).await;
    }
    let outcome = load.stop().await;
    assert!(
        outcome.failed.is_empty(),
        "traffic does not pass through the master: {outcome:?}"
    );
}
