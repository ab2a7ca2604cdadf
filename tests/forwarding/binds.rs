//! User ids that are bound on a member.

use bytes::Bytes;

use crate::{
    cluster::{RoomCluster, text},
    raw_link::{
        frame, open,
        proto::{Frame, Kind},
    },
    scripted_peer::{ScriptedPeer, ask},
};

#[tokio::test]
async fn a_bind_holds_until_its_gate_has_it_and_is_sent_again_if_it_may_be_lost() {
    let cluster = RoomCluster::with(&["a"]).await;
    let backend = &cluster.backends[0].node;
    let mut gate = ScriptedPeer::join(&cluster.master, 7).await;
    backend.knows(3).await;
    let stream = gate.stream_to(backend, 5).await;
    let mut session = open(5, 1, false);
    session.open.as_mut().unwrap().client_address = "127.0.0.1:9".to_owned();
    stream.send(vec![session, frame(Kind::ResyncDone)]);
    let message = |request, route, body| {
        let (route, body) = (Bytes::from_static(route), Bytes::from_static(body));
        Frame {
            session: 5,
            request,
            route,
            body,
            ..frame(Kind::Message)
        }
    };
    let bound = |uid, binds| Frame {
        session: 5,
        uid,
        binds,
        ..frame(Kind::Bound)
    };
    let bind = |uid, binds| Frame {
        session: 5,
        uid,
        binds,
        ..frame(Kind::Bind)
    };

    // The streams are up, so that nothing is sent twice.
    stream.send(vec![message(9, b"Room.Who", b"")]);
    gate.next(Kind::Response).await;
    stream.send(vec![
        message(1, b"Room.Bind", b"10"),
        message(2, b"Room.Bind", b"20"),
    ]);
    assert_eq!(
        [gate.next(Kind::Bind).await, gate.next(Kind::Bind).await],
        [bind(10, 1), bind(20, 2)]
    );
    gate.next(Kind::Response).await;
    // The echo of the first is late; then another member has bound it after the second.
    for (echo, uid) in [
        (bound(10, 1), "5 20 127.0.0.1:9"),
        (bound(20, 2), "5 20 127.0.0.1:9"),
        (bound(30, 2), "5 30 127.0.0.1:9"),
    ] {
        stream.send(vec![echo, message(3, b"Room.Info", b"")]);
        assert_eq!(text(&gate.next(Kind::Response).await.body), uid);
    }

    stream.send(vec![message(4, b"Room.Bind", b"40")]);
    assert_eq!(gate.next(Kind::Bind).await, bind(40, 3));
    // The streams to the gate end, and others begin.
    gate.break_streams();
    assert_eq!(gate.next(Kind::Bind).await, bind(40, 3));
}

#[tokio::test]
async fn a_bind_that_is_sent_again_does_not_undo_a_later_one() {
    let cluster = RoomCluster::with(&[]).await;
    let mut member = ScriptedPeer::join(&cluster.master, 7).await;
    cluster.gate.knows(2).await;
    let client = cluster.client().await;
    let _asked = ask(&client);
    let id = member.next(Kind::Message).await.session;
    let stream = member.stream_to(&cluster.gate, id).await;
    let bind = Frame {
        session: id,
        uid: 50,
        binds: 1,
        ..frame(Kind::Bind)
    };
    let bound = |uid| Frame {
        session: id,
        uid,
        binds: 1,
        ..frame(Kind::Bound)
    };

    stream.send(vec![bind.clone()]);
    assert_eq!(member.next(Kind::Bound).await, bound(50));
    let session = cluster.gate.handle().session(id).unwrap();
    session.bind(60).unwrap();
    assert_eq!(member.next(Kind::Bound).await, bound(60));
    stream.send(vec![bind]);
    assert_eq!(member.next(Kind::Bound).await, bound(60));
    assert_eq!(session.uid(), 60);
}
