//! What was recorded in numbers alone: what nano loses or mixes up, and ours does not.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{gate, master, members::shaken, ours, recording::Recording};
use crate::support::{Peer, RawClient, within};

/// Defect 23: gates whose node ids nano takes for equal give out different session ids.
#[tokio::test]
async fn s24_session_ids_of_two_gates() {
    let recording = Recording::load("s24_session_id_collision");
    let count = recording.facts["connections_each"].as_u64().unwrap() as usize;
    let master = master().await;
    let gate = async |node: &str| {
        let flags = [
            "--master",
            &master.node(),
            "--services",
            "T",
            "--client",
            "127.0.0.1:0",
            "--node",
            node,
        ];
        Peer::start(&flags).await
    };
    let gates = [gate("5").await, gate("1005").await];
    let id = async |gate: &Peer| {
        let mut client = shaken(gate).await;
        let answer: Value = serde_json::from_slice(&client.call(1, "T.Ids", "").await).unwrap();
        answer["id"].as_i64().unwrap()
    };
    let mut ids = HashSet::new();
    for _ in 0..count / 50 {
        let some = (0..100).map(|number| id(&gates[number % 2]));
        ids.extend(join_all(some).await);
    }
    assert_eq!(
        ids.len(),
        2 * count,
        "no collisions, where there were {}",
        recording.facts["colliding_ids"]
    );
}

/// A backend is killed and started again at its address. Every request ends, and they are answered
/// again as soon as nano's are.
#[tokio::test]
async fn s27_a_backend_is_started_again_at_once() {
    let recording = Recording::load("s27_backend_sigkill_restart_same_addr");
    let recorded = Duration::from_secs_f64(recording.facts["first_ok_after_s"].as_f64().unwrap());
    let master = master().await;
    let gate = gate(&master, "").await;
    let backend = ours(&["--master", &master.node(), "--services", "Echo"]).await;
    let address = backend.node();
    let mut client = shaken(&gate).await;
    answered(&mut client).await;

    backend.signal("KILL").await;
    backend.exited().await;
    let begun = Instant::now();
    let again = ours(&[
        "--master",
        &master.node(),
        "--services",
        "Echo",
        "--listen",
        &address,
    ])
    .await;
    let took = within("an answer", answered(&mut client)).await - begun;
    assert!(
        took < recorded + Duration::from_secs(1),
        "{took:?}, where it was {recorded:?}"
    );
    assert_eq!(again.node(), address);
}

/// Asks until it is answered, and is refused until then. When it was.
async fn answered(client: &mut RawClient) -> Instant {
    for id in 1.. {
        client.request(id, "Echo.Echo", "x").await;
        let message = client.message().await;
        assert_eq!(message.id, id, "each ends before the next");
        if !message.error {
            return Instant::now();
        }
        sleep(Duration::from_millis(10)).await;
    }
    unreachable!("ids do not end")
}
