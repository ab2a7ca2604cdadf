//! A session that moves from the link of one gate to that of another.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    cluster::link::{
        effect::Effect,
        held::HeldItem,
        proto::{Frame, Kind},
        served_session::NewSession,
        state::LinkState,
    },
    error::code,
    mock,
    session::{Session, UserId},
};

const REQUEST: u64 = 9;

/// The link of a gate, on which this node serves the session with one request in flight.
fn serving(session: &Session) -> LinkState<Session> {
    let (mut link, mut effects) = (link(), Vec::new());
    let mut open = |_: NewSession<'_>| session.clone();
    let id = session.id();
    link.serve_unannounced(id, &mut open).unwrap();
    let message = Frame::message(Kind::Message, id, REQUEST, "Room.Say".into(), Bytes::new());
    let now = Instant::now;
    assert!(link.receive(1, message, now, false, &mut effects, &mut open));
    link
}

/// A link whose peer has opened a stream.
fn link() -> LinkState<Session> {
    let mut link = LinkState::new(0, Duration::from_secs(10), None);
    link.accept(1, 1, Instant::now(), &mut Vec::new()).unwrap();
    link
}

fn push(id: i64) -> Frame {
    Frame::push(id, Vec::new(), "onSay", Bytes::new())
}

#[test]
fn a_held_session_sends_nothing_until_it_is_released() {
    let session = mock::session().0;
    let (id, mut link) = (session.id(), serving(&session));
    assert!(link.push(id, 1, push(id)).is_ok());
    assert!(link.hold(id, "b:1").is_some());
    assert_eq!(link.push(id, 1, push(id)).unwrap_err().code(), code::CLOSED);
    let refused = link.respond(id, 1, REQUEST, || panic!("it is kept"));
    assert_eq!(refused.unwrap_err().code(), code::CLOSED);
    let (_, key) = link.release(id).unwrap();
    let (_, again) = link.release(id).unwrap();
    assert_eq!(again, key, "a repeated call changes nothing");
    assert!(link.push(id, key, push(id)).is_ok());
    assert!(link.respond(id, key, REQUEST, || Ok(Bytes::new())).is_ok());
}

#[test]
fn only_the_gate_it_is_held_for_takes_a_session_and_its_requests() {
    let session = mock::session().0;
    let (id, mut former) = (session.id(), serving(&session));
    assert!(former.take_held(id, "b:1").is_none(), "it is not held");
    former.hold(id, "b:1");
    assert!(
        former.take_held(id, "c:1").is_none(),
        "it is not for that gate"
    );
    let served = former.take_held(id, "b:1").unwrap();
    assert!(former.push(id, 1, push(id)).is_err());
    assert!(former.hold(id, "b:1").is_none(), "it is gone");

    let mut next = link();
    let key = next.adopt(served, 5).unwrap();
    let items = vec![
        HeldItem::Frame(push(id)),
        HeldItem::Respond(REQUEST, Ok(Bytes::new())),
        HeldItem::Respond(REQUEST, Ok(Bytes::new())),
        HeldItem::Bind(UserId::of_parts(7, "")),
    ];
    next.send_held(&session, key, items);
    // The second answer finds no request.
    assert_eq!(next.sender().queue.len(), 3);
    assert_eq!(session.uid(), 7);
    assert!(next.serves(id) && !former.serves(id));
    let again = serving(&session).take_held(id, "b:1");
    assert!(again.is_none());
}

#[test]
fn what_was_accepted_while_a_session_was_held_is_sent_whatever_else_waits() {
    let session = mock::session().0;
    let (id, mut former) = (session.id(), serving(&session));
    former.hold(id, "b:1");
    let served = former.take_held(id, "b:1").unwrap();
    let mut next = link();
    let large = Bytes::from(vec![0; 16 << 20]);
    for _ in 0..5 {
        let frame = Frame::push(0, Vec::new(), "onSay", large.clone());
        next.sender.push(frame);
    }
    let key = next.adopt(served, 5).unwrap();
    let value = Some(Bytes::from_static(b"1"));
    session.inner().shared.set("level", value).unwrap();
    let items = vec![
        HeldItem::Frame(push(id)),
        HeldItem::Route("Room".to_owned(), Some("c:1".to_owned())),
        HeldItem::Share("level".to_owned()),
        HeldItem::Bind(UserId::of_parts(7, "")),
    ];
    next.send_held(&session, key, items);
    let queued: Vec<_> = next.sender().queue.iter().skip(5).collect();
    let kinds: Vec<_> = queued.iter().map(|frame| frame.kind()).collect();
    assert_eq!(kinds, [Kind::Push, Kind::Route, Kind::Share, Kind::Bind]);
    let refused = next.push(id, key, push(id)).unwrap_err();
    assert_eq!(refused.code(), code::TOO_MANY, "as before");
}

#[test]
fn a_node_ends_a_session_that_has_moved_and_was_not_attached_there() {
    let session = mock::session().0;
    let (id, mut gate) = (session.id(), link());
    gate.session_adopted(&session, vec![REQUEST]);
    gate.session_moved(id);
    gate.session_moved(id);
    let closed: Vec<_> = gate.sender().queue.iter().cloned().collect();
    assert_eq!(closed.len(), 1, "announced once");
    for attached in [false, true] {
        let (mut node, mut effects) = (serving(&session), Vec::new());
        node.hold(id, "b:1");
        let taken = attached.then(|| node.take_held(id, "b:1").unwrap());
        let mut open = |_: NewSession<'_>| session.clone();
        node.receive(
            1,
            closed[0].clone(),
            Instant::now,
            true,
            &mut effects,
            &mut open,
        );
        let is_end = |effect: &Effect<Session>| matches!(effect, Effect::EndSession { .. });
        assert_eq!(effects.iter().any(is_end), !attached);
        assert!(
            node.serve_unannounced(id, &mut open).is_err(),
            "it was here"
        );
        // It comes back to that gate.
        if let Some(taken) = taken {
            node.adopt(taken, 6).unwrap();
            assert!(node.serve_unannounced(id, &mut open).is_ok());
        }
    }
}

#[test]
fn a_multicast_leaves_out_those_that_move() {
    let session = mock::session().0;
    let (id, mut link) = (session.id(), serving(&session));
    let frame = || Frame::push(0, vec![id, id + 2], "onSay", Bytes::new());
    let mut displaced = Vec::new();
    link.multicast(frame(), &mut displaced).unwrap();
    assert_eq!(displaced, [0; 0], "nothing was ever held");
    link.hold(id, "b:1");
    link.multicast(frame(), &mut displaced).unwrap();
    assert_eq!(displaced, [id, id + 2]);
    assert_eq!(link.sender().queue.len(), 1);
}
