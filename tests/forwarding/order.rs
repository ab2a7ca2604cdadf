use std::{collections::HashSet, time::Duration};

use nano::message::Kind;

use crate::{
    cluster::{Backend, RoomCluster, text},
    support::RawClient,
};

const SESSIONS: usize = 20;
const MESSAGES: u64 = 300;

/// Sends more than a window at once, and expects all pushes in order and to each request its own
/// answer, a third of them late.
async fn play(mut client: RawClient) {
    for id in 1..=MESSAGES {
        client
            .request(id, "Room.Number", (id - 1).to_string())
            .await;
    }
    let (mut pushed, mut answered) = (0, HashSet::new());
    while pushed < MESSAGES || answered.len() < MESSAGES as usize {
        let message = client.message().await;
        let number: u64 = text(&message.body).parse().unwrap();
        match message.kind {
            Kind::Push => {
                assert_eq!(number, pushed, "pushes in order");
                pushed += 1;
            }
            Kind::Response => {
                assert_eq!(
                    (message.id, message.error),
                    (number + 1, false),
                    "its own answer"
                );
                assert!(answered.insert(number), "answered once");
            }
            other => panic!("a server sends no {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_keeps_its_order_on_its_member() {
    // So that a busy member is not evicted.
    let calm = |app: crate::support::MemberApp| app.heartbeat(Duration::from_secs(1));
    let mut cluster = RoomCluster::configured(&["a", "b"], calm).await;
    let mut playing = Vec::new();
    for _ in 0..SESSIONS {
        playing.push(tokio::spawn(play(cluster.gate.raw_client().await)));
    }
    let third = cluster.backend("c", calm).await;
    cluster.backends.push(third);
    for player in playing {
        player.await.unwrap();
    }

    let mut seen = HashSet::new();
    for Backend { room, .. } in &cluster.backends {
        for (session, numbers) in &*room.started() {
            assert!(seen.insert(*session), "on one member only");
            assert!(
                numbers.iter().copied().eq(0..MESSAGES),
                "handlers in order: {numbers:?}"
            );
        }
    }
    assert_eq!(seen.len(), SESSIONS);
    cluster.is_empty().await;
}
