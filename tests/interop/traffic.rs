//! What nodes do for each other while all is well.

use std::collections::VecDeque;

use futures_util::{FutureExt, future::maybe_done};
use tokio::task::unconstrained;

use crate::{cannot::Defect, cluster::InteropCluster, node::Kind, player::Player};

const NUMBERS: u64 = 10_000;

/// A player of the later gate, who stays.
pub(crate) async fn all_nodes_have_joined(cluster: &InteropCluster) -> Player {
    cluster.knows(&[&cluster.late_role.address]).await;
    let player = cluster.player().await;
    assert_eq!(
        player.ask_until_answered("Room.Who", "").await,
        "steady",
        "told of it later"
    );
    assert_eq!(player.offered().await, [cluster.backend.address()]);
    assert_eq!(player.ask("Lobby.Who", "").await, "master");
    assert_eq!(player.ask("Gate.Who", "").await, "gate");
    let player = cluster.late_player().await;
    assert_eq!(
        player.ask_until_answered("Room.Who", "").await,
        "steady",
        "told of it when it joined"
    );
    assert_eq!(player.ask("Lobby.Who", "").await, "master");
    player
}

pub(crate) async fn messages_of_every_kind(cluster: &mut InteropCluster) {
    let mut player = cluster.player().await;
    for service in ["Room", "Lobby", "Gate"] {
        for len in [0, 1, 60_000] {
            let body = "x".repeat(len);
            assert_eq!(
                player.ask(&format!("{service}.Echo"), body.clone()).await,
                body
            );
        }
        assert_eq!(player.ask(&format!("{service}.Push"), "p").await, "p");
        assert_eq!(
            player.pushed(),
            [Some("p".into()), Some("p".into())],
            "before the answer"
        );
    }
    player.notify("Room.Note", "one").await;
    assert_eq!(player.note().await, "steady one");
    player.notify("Lobby.Note", "two").await;
    assert_eq!(player.note().await, "master two");

    let failure = player.fails("Room.Nope").await;
    let silent = cluster.meets(Defect::NoErrorReplies);
    assert_eq!(failure.as_deref(), (!silent).then_some("NANO-404"));
    assert_eq!(player.ask("Room.Echo", "still here").await, "still here");
}

/// Every node sends to every other, on behalf of a session.
pub(crate) async fn rpc(cluster: &InteropCluster) {
    let mut player = cluster.player().await;
    for (from, to, label) in [
        ("Gate", "Room", "steady"),
        ("Gate", "Lobby", "master"),
        ("Room", "Gate", "gate"),
        ("Room", "Lobby", "master"),
        ("Lobby", "Room", "steady"),
        ("Lobby", "Gate", "gate"),
    ] {
        let body = format!("{to}.Note from {from}");
        assert_eq!(player.ask(&format!("{from}.Rpc"), body).await, "sent");
        assert_eq!(player.note().await, format!("{label} from {from}"));
    }
}

/// The messages of one session arrive in order, and so do its pushes and answers.
pub(crate) async fn order(cluster: &InteropCluster) {
    // More than 16 of them on the way to a client are too many for a Go gate: two for each message
    // here, and heartbeats.
    let window = if cluster.kinds.gate == Kind::Go {
        7
    } else {
        64
    };
    let player = cluster.player().await;
    let mut numbers = player.subscribe("onNumber");
    let (mut sent, mut waiting) = (0, VecDeque::new());
    for number in 1..=NUMBERS {
        while sent < NUMBERS && waiting.len() < window {
            sent += 1;
            let mut answer = Box::pin(maybe_done(unconstrained(
                player.ask("Room.Number", sent.to_string()),
            )));
            // Sent now, and in this order, whether the answer is here already or not; a task that
            // had done much already would have to wait.
            let _ = (&mut answer).now_or_never();
            waiting.push_back(answer);
        }
        let mut answer = waiting.pop_front().unwrap();
        (&mut answer).await;
        assert_eq!(answer.as_mut().take_output().unwrap(), number.to_string());
        assert_eq!(
            numbers.try_recv().unwrap(),
            number.to_string(),
            "pushed before it was answered"
        );
    }
    assert_eq!(player.ask("Room.Counted", "").await, NUMBERS.to_string());
}

/// A session that has been on all three nodes.
pub(crate) async fn seen_everywhere(cluster: &InteropCluster, uid: i64) -> Player {
    let player = cluster.player().await;
    player.want("steady").await;
    for service in ["Gate", "Room", "Lobby"] {
        assert_eq!(
            player
                .ask(&format!("{service}.Bind"), uid.to_string())
                .await,
            "bound"
        );
    }
    player
}
