//! A peer that is sent to, and has nothing to say.

use std::sync::Arc;

use tokio::time::Instant;

use super::{batch, feed, send, up};
use crate::{
    cluster::link::{
        activity::OpenCalls,
        config::{DEAD_AFTER, PROBE_INTERVAL},
        effect::Effect,
        proto::Kind,
        stream::LinkStream,
    },
    mock,
};

/// A stream that is up in both directions.
pub(super) fn linked() -> Arc<LinkStream> {
    let stream = up();
    feed(&stream, |state, effects| {
        state.accept(1, 1, Instant::now(), effects).unwrap();
    });
    stream
}

/// Probes so often. `sent` is called before each probe, `answers` is whether the peer answers PINGs.
/// Returns whether it was suspected.
fn suspected(stream: &LinkStream, answers: bool, mut sent: impl FnMut(usize)) -> bool {
    let (begun, mut suspected) = (Instant::now(), false);
    for (probe, at) in (0..2 * DEAD_AFTER as usize).zip(1..) {
        sent(probe);
        let now = begun + PROBE_INTERVAL * at;
        let mut effects = Vec::new();
        stream.input(|state| state.probe(now, OpenCalls::default(), &mut effects));
        suspected |= effects
            .iter()
            .any(|effect| matches!(effect, Effect::PeerSuspected));
        let pinged = batch(stream).iter().any(|frame| frame.kind() == Kind::Ping);
        if answers && pinged {
            feed(stream, |state, effects| {
                assert!(state.hear(1, false, effects));
            });
        }
    }
    suspected
}

#[test]
fn a_peer_that_is_only_sent_to_is_asked_for_a_sign_of_life_and_not_suspected() {
    for every in 1..5 {
        let (stream, (session, _)) = (linked(), mock::session());
        let say = |probe| {
            if probe % every == 0 {
                assert!(send(&stream, &session, 10).is_none());
                batch(&stream);
            }
        };
        assert!(!suspected(&stream, true, say), "sent to at each {every}");
        assert!(suspected(&stream, false, say), "it does not answer");
    }
}

#[test]
fn a_peer_is_asked_for_a_sign_of_life_behind_what_is_queued() {
    let (stream, (session, _)) = (linked(), mock::session());
    let say = |_| assert!(send(&stream, &session, 10).is_none());
    assert!(!suspected(&stream, true, say));
}
