//! What the others do about a node that died or hangs.

use std::time::Duration;

use nano::{CloseReason, Raw, client::Client};
use tokio::time::Instant;

use crate::{
    cluster::{answered, backend, cluster, gate, is_known, last_lost},
    rooms::{Backend, RoomCluster},
    support::{Peer, eventually},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_of_a_gate_that_is_killed_end_once_on_every_member() {
    const CLIENTS: usize = 30;
    let cluster = cluster(&["a", "b"], |app| app).await;
    let gate = gate(&cluster.master).await;
    for Backend { node, .. } in &cluster.backends {
        node.knows(4).await;
    }
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client: Client<Raw> = Client::builder()
            .typed::<Raw>()
            .connect(&format!("tcp://{}", gate.address))
            .await
            .unwrap();
        client.request_raw("Room.Join", "").await.unwrap();
        clients.push(client);
    }
    // Those of another gate stay.
    let other = cluster.client().await;
    other.request_raw("Room.Join", "").await.unwrap();
    let served = || {
        cluster
            .backends
            .iter()
            .map(|backend| backend.node.handle().sessions().count())
            .sum::<usize>()
    };
    assert_eq!(served(), CLIENTS + 1);

    gate.signal("KILL").await;
    let closed = || {
        cluster
            .backends
            .iter()
            .flat_map(|backend| backend.room.closed())
            .collect::<Vec<_>>()
    };
    eventually("its sessions to end", || {
        served() == 1 && closed().len() == CLIENTS
    })
    .await;
    let mut ids: Vec<_> = closed().into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), CLIENTS, "one callback each");
    assert!(
        closed()
            .iter()
            .all(|(_, reason)| matches!(reason, CloseReason::Broken(_))),
        "{:?}",
        closed()
    );
    assert_eq!(
        cluster
            .backends
            .iter()
            .map(|backend| backend.room.group().count())
            .sum::<usize>(),
        1,
        "groups forget them"
    );

    // Nothing more comes of the eviction, which is later.
    for Backend { node, .. } in &cluster.backends {
        node.knows(3).await;
    }
    assert_eq!((served(), closed().len()), (1, CLIENTS));
    other.request_raw("Room.Echo", "still here").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_bound_to_a_member_that_is_killed_is_free() {
    let cluster = cluster(&[], |app| app).await;
    let victim = backend(&cluster.master).await;
    cluster.gate.knows(2).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = cluster.client().await;
        client.request_raw("T.Empty", "").await.unwrap();
        clients.push(client);
    }
    let address = victim.address.to_string();
    let bindings = || {
        cluster
            .gate
            .handle()
            .sessions()
            .list()
            .iter()
            .filter_map(|session| session.router().find("T"))
            .collect::<Vec<_>>()
    };
    assert_eq!(bindings(), vec![address.clone(); 20]);

    victim.signal("KILL").await;
    is_known(&address, false, &[&cluster.gate]).await;
    eventually("its sessions are free", || bindings().is_empty()).await;
    let successor = backend(&cluster.master).await;
    is_known(&successor.address.to_string(), true, &[&cluster.gate]).await;
    for client in &clients {
        answered(client, "T.Empty").await;
    }
    assert_eq!(bindings(), vec![successor.address.to_string(); 20]);
}

/// Stops the process with this signal; checks when it gets no more traffic, and when it is out of
/// every table.
async fn is_left_alone(
    signal: &str,
    traffic: Duration,
    tables: Duration,
) -> (RoomCluster, [Peer; 2]) {
    let cluster = cluster(&[], |app| app).await;
    let (survivor, victim) = (
        backend(&cluster.master).await,
        backend(&cluster.master).await,
    );
    cluster.gate.knows(3).await;
    let gate = format!("tcp://{}", cluster.gate.client_address());
    let (address, survives) = (victim.address.to_string(), survivor.address.to_string());

    let began = Instant::now();
    victim.signal(signal).await;
    let last = last_lost(&gate, "T.Empty", traffic * 2).await;
    assert!(last < traffic, "traffic for {last:?} after the end");
    is_known(&address, false, &[&cluster.master, &cluster.gate]).await;
    assert!(
        began.elapsed() < tables,
        "in a table for {:?}",
        began.elapsed()
    );
    is_known(&survives, true, &[&cluster.master, &cluster.gate]).await;
    (cluster, [survivor, victim])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_killed_gets_no_more_traffic_and_is_soon_out_of_every_table() {
    is_left_alone("KILL", Duration::from_secs(1), Duration::from_secs(8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_hangs_likewise_and_comes_back_by_itself() {
    // It is missed after 0.8 s; the rest is for busy machines.
    let (cluster, [survivor, victim]) = is_left_alone(
        "STOP",
        Duration::from_millis(1_750),
        Duration::from_secs(10),
    )
    .await;
    victim.signal("CONT").await;
    is_known(
        &victim.address.to_string(),
        true,
        &[&cluster.master, &cluster.gate],
    )
    .await;

    survivor.signal("KILL").await;
    is_known(
        &survivor.address.to_string(),
        false,
        &[&cluster.master, &cluster.gate],
    )
    .await;
    let client = cluster.client().await;
    answered(&client, "T.Empty").await;
}
