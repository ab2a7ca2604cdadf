//! Sessions that one side has ended, and the other does not know yet.

use bytes::Bytes;
use nano::{Error, code};

use crate::{
    cluster::{Backend, RoomCluster, code_of, text},
    raw_link::{
        frame, open,
        proto::{Frame, Kind},
    },
    scripted_peer::{ScriptedPeer, ask, number},
    support::{eventually, within},
};

#[tokio::test]
async fn an_unknown_session_notice_ends_that_session_and_no_later_one() {
    let cluster = RoomCluster::with(&[]).await;
    let mut member = ScriptedPeer::join(&cluster.master, 7).await;
    cluster.gate.knows(2).await;
    let client = cluster.client().await;

    let first = ask(&client);
    let (open, message) = (
        member.next(Kind::SessionOpen).await,
        member.next(Kind::Message).await,
    );
    let gone = |open: &Frame| Frame {
        session: open.session,
        opened: number(open),
        ..frame(Kind::SessionUnknown)
    };
    member.answer(gone(&open));
    assert_eq!(
        code_of(within("an answer", first).await.unwrap()),
        code::UNAVAILABLE
    );

    let second = ask(&client);
    let again = member.next(Kind::SessionOpen).await;
    assert!(number(&again) > number(&open), "told apart");
    let question = member.next(Kind::Message).await;
    // Sent before the member had learned that the session is back. A later notice about another
    // session on the same stream shows that this one was handled.
    member.answer(gone(&open));
    let mut others = Vec::new();
    loop {
        let other = cluster.client().await;
        let (asked, open) = (ask(&other), member.next(Kind::SessionOpen).await);
        others.push(other);
        if open.session % 2 == message.session % 2 {
            member.answer(gone(&open));
            assert_eq!(
                code_of(within("an answer", asked).await.unwrap()),
                code::UNAVAILABLE
            );
            break;
        }
    }
    let stream = member.stream_to(&cluster.gate, message.session).await;
    stream.send(vec![Frame {
        request: question.request,
        body: Bytes::from_static(b"mine"),
        session: message.session,
        ..frame(Kind::Response)
    }]);
    assert_eq!(
        text(&within("an answer", second).await.unwrap().unwrap()),
        "mine"
    );
    client.close();
    assert_eq!(
        member.next(Kind::SessionClosed).await.session,
        message.session,
        "the member learns of its end"
    );
}

#[tokio::test]
async fn a_message_of_a_session_that_has_ended_is_answered_and_opens_nothing() {
    let cluster = RoomCluster::with(&["a"]).await;
    let Backend {
        node: backend,
        room,
    } = &cluster.backends[0];
    let mut gate = ScriptedPeer::join(&cluster.master, 7).await;
    backend.knows(3).await;
    let mut stream = gate.stream_to(backend, 5).await;
    let message = |request| Frame {
        session: 5,
        request,
        route: Bytes::from_static(b"Room.Join"),
        ..frame(Kind::Message)
    };
    stream.send(vec![open(5, 3, false), frame(Kind::ResyncDone), message(1)]);
    assert!(!gate.next(Kind::Response).await.error);
    stream.send(vec![
        Frame {
            session: 5,
            ..frame(Kind::SessionClosed)
        },
        message(2),
        message(0),
    ]);
    let refused = gate.next(Kind::Response).await;
    assert_eq!(
        (
            refused.request,
            refused.error,
            Error::from_body(&refused.body).code()
        ),
        (2, true, code::UNAVAILABLE)
    );
    let mut gone = Vec::new();
    while gone.len() < 2 {
        gone.extend(
            within("an answer", stream.answers.message())
                .await
                .unwrap()
                .unwrap()
                .frames,
        );
    }
    assert_eq!(
        gone,
        vec![
            Frame {
                session: 5,
                opened: 3,
                ..frame(Kind::SessionUnknown)
            };
            2
        ]
    );
    eventually("its callback", || room.closed().len() == 1).await;
    assert_eq!(
        (backend.handle().sessions().count(), room.group().count()),
        (0, 0)
    );
}
