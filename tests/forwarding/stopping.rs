//! Members that stop, and the gates that drain towards them.

use std::time::Duration;

use bytes::Bytes;
use nano::code;
use tokio::time::Instant;

use crate::{
    cluster::{Backend, RoomCluster, code_of, text},
    raw_link::{
        frame, open,
        proto::{Frame, Kind},
    },
    scripted_peer::{ScriptedPeer, ask},
    support::{eventually, within},
};

#[tokio::test]
async fn a_member_that_stops_loses_no_request() {
    let cluster = RoomCluster::with(&["a", "b"]).await;
    let client = cluster.client().await;
    let session = {
        client.request_raw("Room.Who", "").await.unwrap();
        cluster.gate.handle().sessions().list().pop().unwrap()
    };
    session
        .router()
        .bind("Room", cluster.backends[0].node.address())
        .unwrap();
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.request_raw("Room.Hold", "").await }
    });
    eventually("the request to arrive", || {
        !cluster.backends[0].room.held().is_empty()
    })
    .await;

    let asking = tokio::spawn({
        let client = client.clone();
        async move {
            for _ in 0..200 {
                client.request_raw("Room.Who", "").await.unwrap();
            }
        }
    });
    let room = cluster.backends[0].room.clone();
    let answer = async {
        eventually("the others to have moved", || {
            cluster.backends[1].room.handled() > 0
        })
        .await;
        for responder in room.held().drain(..) {
            responder.respond(&Bytes::from_static(b"late")).unwrap();
        }
    };
    tokio::join!(cluster.backends[0].node.stop(), answer);
    within("every request", asking).await.unwrap();
    assert_eq!(
        within("the held request", held).await.unwrap().unwrap(),
        "late"
    );
    assert_eq!(
        cluster.backends[0].room.closed().len(),
        1,
        "its session ended with a callback"
    );
    assert!(
        client.close_reason().is_none(),
        "the client noticed nothing"
    );
}

#[tokio::test]
async fn a_member_that_stops_handles_messages_until_every_gate_has_drained() {
    let cluster = RoomCluster::with(&["a"]).await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let mut gate = ScriptedPeer::join(&cluster.master, 7).await;
    backend.knows(3).await;
    let streams = [
        gate.stream_to(backend, 4).await,
        gate.stream_to(backend, 5).await,
    ];
    streams[1].send(vec![open(5, 1, false), frame(Kind::ResyncDone)]);
    let message = |request, route| Frame {
        session: 5,
        request,
        route: Bytes::from_static(route),
        ..frame(Kind::Message)
    };
    streams[1].send(vec![message(1, b"Room.Who")]);
    gate.next(Kind::Response).await;

    let begun = Instant::now();
    let gate = async {
        gate.next(Kind::Goaway).await;
        gate.next(Kind::Goaway).await;
        streams[0].send(vec![frame(Kind::Drained)]);
        // Sent before it was known, and later than the other stream's.
        for id in 2..100 {
            streams[1].send(vec![message(id, b"Room.Who")]);
            assert_eq!(gate.next(Kind::Response).await.body, "a");
        }
        streams[1].send(vec![message(100, b"Room.Hold"), frame(Kind::Drained)]);
        eventually("it is held", || room.held().len() == 1).await;
        room.held()
            .remove(0)
            .respond(&Bytes::from_static(b"late"))
            .unwrap();
        assert_eq!(gate.next(Kind::Response).await.body, "late");
        gate
    };
    let (_, _gate) = tokio::join!(backend.stop(), gate);
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "not for half of its time: {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_gate_sends_nothing_more_to_a_member_that_stops() {
    let cluster = RoomCluster::with(&["a"]).await;
    let mut member = ScriptedPeer::join(&cluster.master, 7).await;
    cluster.gate.knows(3).await;
    let client = cluster.client().await;
    let asked = ask(&client);
    let question = member.next(Kind::Message).await;
    let streams = [
        member.stream_to(&cluster.gate, 0).await,
        member.stream_to(&cluster.gate, 1).await,
    ];
    for stream in &streams {
        stream.send(vec![frame(Kind::Goaway)]);
    }
    member.next(Kind::Drained).await;
    member.next(Kind::Drained).await;

    let refused = client.request_raw("Hand.Ask", "").await;
    assert_eq!(
        code_of(refused),
        code::UNAVAILABLE,
        "no other member has it"
    );
    // What was sent before is answered still.
    let answer = Frame {
        session: question.session,
        request: question.request,
        body: Bytes::from_static(b"done"),
        ..frame(Kind::Response)
    };
    streams[usize::try_from(question.session % 2).unwrap()].send(vec![answer]);
    assert_eq!(
        text(&within("an answer", asked).await.unwrap().unwrap()),
        "done"
    );
    client.close();
    eventually("the session to be gone", || {
        cluster.gate.handle().sessions().count() == 0
    })
    .await;
    let later = member.arrived();
    assert!(
        !later.contains(&Kind::Message) && !later.contains(&Kind::SessionOpen),
        "{later:?}"
    );
}
