//! Pushes to users: what is acknowledged together, and what ends without the peer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    sync::oneshot::{Receiver, error::TryRecvError},
    time::Instant,
};

use super::{batch, feed, one_way::linked};
use crate::{
    cluster::{
        link::{
            activity::OpenCalls,
            effect::Effect,
            proto::{Frame, Kind},
            state::LinkState,
            stream::LinkStream,
            user_pushes::PUSH_TIMEOUT,
        },
        transport::Unreached,
    },
    error::code,
    session::{Push, Session},
};

/// A push to a user with this number.
fn frame() -> Frame {
    Frame::user_push([7.into()].iter(), &Push::new("on", Bytes::new()))
}

fn push(stream: &LinkStream, number: u64) -> Receiver<Unreached> {
    let (done, ended) = tokio::sync::oneshot::channel();
    stream.input(|state| {
        let queued = state.push_to_users(frame(), |_| number, done);
        assert!(queued.is_ok());
    });
    ended
}

fn receive(stream: &LinkStream, frame: Frame) {
    feed(stream, |state, effects| {
        let now = Instant::now;
        assert!(state.receive(1, frame, now, false, effects, &mut |_| unreachable!()));
    });
}

#[test]
fn pushes_of_one_batch_are_acknowledged_by_one_frame_that_names_the_missed() {
    let (gate, backend) = (linked(), linked());
    // RESYNC_DONE.
    assert_eq!((batch(&gate).len(), batch(&backend).len()), (1, 1));
    let mut pushes: Vec<_> = (1..=3).map(|number| push(&backend, number)).collect();
    let sent = batch(&backend);
    assert_eq!(sent.len(), 3);
    for frame in sent {
        let (number, kind) = (frame.request, frame.kind());
        assert_eq!(kind, Kind::UserPush);
        receive(&gate, frame);
        let missed: &[usize] = if number == 2 { &[0] } else { &[] };
        gate.input(|state| state.user_push_handled(number, 1, missed));
    }
    gate.acknowledge_user_pushes();
    gate.acknowledge_user_pushes();
    let acknowledged = batch(&gate);
    assert_eq!(acknowledged.len(), 1, "{acknowledged:?}");
    for frame in acknowledged {
        receive(&backend, frame);
    }
    let missed = pushes
        .iter_mut()
        .map(|push| push.try_recv().unwrap().unwrap());
    assert_eq!(missed.collect::<Vec<_>>(), [vec![], vec![0], vec![]]);
}

#[test]
fn a_push_that_the_gate_does_not_acknowledge_is_probed_until_it_fails() {
    let stream = linked();
    let mut pushed = push(&stream, 1);
    batch(&stream);
    let begun = Instant::now();
    let probe = |at| {
        let mut next = None;
        feed(&stream, |state, effects| {
            // The gate lives, as it says.
            state.hear(1, false, effects);
            next = state.probe(at, OpenCalls::default(), effects);
        });
        next
    };
    let mut now = begun;
    while now < begun + PUSH_TIMEOUT {
        assert!(matches!(pushed.try_recv(), Err(TryRecvError::Empty)));
        now = probe(now).expect("another probe");
        assert!(now <= begun + 2 * PUSH_TIMEOUT);
    }
    probe(now);
    let error = pushed.try_recv().unwrap().unwrap_err();
    assert_eq!(error.code(), code::TIMEOUT);
}

#[test]
fn pushes_fail_with_a_stream_of_either_direction_and_are_not_sent_any_more() {
    type Break = fn(&mut LinkState<Session>, &mut Vec<Effect<Session>>);
    let breaks: [Break; 3] = [
        |state, effects| state.outbound_down(Instant::now(), effects),
        |state, effects| assert!(state.inbound_down(1, Instant::now(), effects)),
        |state, effects| state.close(effects),
    ];
    for down in breaks {
        let stream: Arc<LinkStream> = linked();
        let mut sent = push(&stream, 1);
        batch(&stream);
        let mut queued = push(&stream, 2);
        feed(&stream, down);
        for push in [&mut sent, &mut queued] {
            let error = push.try_recv().unwrap().unwrap_err();
            assert_eq!(error.code(), code::UNAVAILABLE);
        }
        let is_queued = stream.read(|state| state.sender().queue.holds(Kind::UserPush));
        assert!(!is_queued);
    }
}
