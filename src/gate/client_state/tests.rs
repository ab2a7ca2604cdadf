use std::collections::HashSet;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::gate::liveness::{Liveness, Step, Tick};
use crate::{
    gate::{
        config::{GateConfig, SlowClient},
        rate_limit::{Bucket, RateLimit},
    },
    message::Message,
    packet::{self, Decoder},
};

const SECOND: Duration = Duration::from_secs(1);

fn config(slow_client: SlowClient) -> LiveLimits {
    LiveLimits::new(&GateConfig {
        queue_bytes: 100,
        slow_client,
        ..GateConfig::default()
    })
}

fn push(state: &mut ClientState, len: usize, config: &LiveLimits) -> Result<(), Refusal> {
    state.admit(len, true, config)?;
    state.messages().packet(&Bytes::from(vec![0; len]));
    Ok(())
}

/// A client that has shaken hands.
fn acknowledged() -> ClientState {
    let mut state = ClientState::default();
    state.acknowledge();
    state
}

/// All steps up to the flush.
fn steps(state: &mut ClientState, now: Instant) -> Vec<CloseStep> {
    let mut steps = Vec::new();
    loop {
        let step = state.next_step(now);
        let last = matches!(
            step,
            CloseStep::Stay | CloseStep::Process | CloseStep::Flush { .. }
        );
        steps.push(step);
        if last {
            return steps;
        }
    }
}

/// The kick of a close with this reason.
fn kick(reason: CloseReason) -> CloseStep {
    let client = acknowledged().greeted();
    CloseStep::QueueKick(Ending::from(reason).kick(client).unwrap())
}

fn flush(reason: CloseReason, now: Instant) -> CloseStep {
    let by = now + FLUSH_TIMEOUT;
    let ending = reason.into();
    CloseStep::Flush { ending, by }
}

#[test]
fn a_shutdown_waits_for_requests_in_flight() {
    let (mut state, now) = (acknowledged(), Instant::now());
    let config = config(SlowClient::Disconnect);
    state.in_flight.insert(1, None, Unanswered::default());
    state.close(CloseReason::Shutdown);
    assert!(!state.is_open());
    assert_eq!(steps(&mut state, now), [CloseStep::Stay]);
    assert_eq!(state.blocked(now), Blocked::Wait);
    assert_eq!(push(&mut state, 10, &config), Ok(()));

    assert!(state.in_flight.take(1).is_some());
    assert_eq!(
        steps(&mut state, now),
        [
            CloseStep::FailRequests,
            kick(CloseReason::Shutdown),
            flush(CloseReason::Shutdown, now)
        ]
    );
    assert_eq!(push(&mut state, 10, &config), Err(Refusal::Closed));
}

#[test]
fn a_second_close_ends_the_drain_and_keeps_the_reason() {
    let (mut state, now) = (acknowledged(), Instant::now());
    state.in_flight.insert(1, None, Unanswered::default());
    state.close(CloseReason::Shutdown);
    state.close(CloseReason::Client);
    assert_eq!(state.next_step(now), CloseStep::FailRequests);
    state.close(CloseReason::RateLimit);
    assert_eq!(state.next_step(now), kick(CloseReason::Shutdown));
    assert_eq!(state.next_step(now), flush(CloseReason::Shutdown, now));
    assert_eq!(state.ending(), Some(CloseReason::Shutdown.into()));
}

#[test]
fn error_replies_pass_the_pipeline_before_the_kick() {
    let (mut state, now) = (acknowledged(), Instant::now());
    state.close(CloseReason::Shutdown);
    assert_eq!(state.next_step(now), CloseStep::FailRequests);
    state
        .queue
        .message(Message::response(1, true, Bytes::new()));
    assert_eq!(steps(&mut state, now), [CloseStep::Process]);
    state.queue.take_unprocessed();
    assert_eq!(state.next_step(now), kick(CloseReason::Shutdown));
}

#[test]
fn a_kick_is_sent_with_and_without_room_and_once() {
    let config = config(SlowClient::DropPushes);
    let now = Instant::now();
    for queued in [10, 100] {
        let mut state = acknowledged();
        push(&mut state, queued, &config).unwrap();
        state.close(CloseReason::Kicked("enough".to_owned()));
        let end = flush(CloseReason::Kicked("enough".to_owned()), now);
        assert_eq!(
            state.next_step(now),
            kick(CloseReason::Kicked("enough".to_owned())),
            "{queued}"
        );
        assert_eq!(state.next_step(now), end);
        // What was queued before the kick is still sent.
        assert_eq!(state.queue.take(&mut Default::default()), 1);
        assert_eq!(state.next_step(now + SECOND), end);
    }
}

#[test]
fn a_client_that_does_not_read_has_until_the_flush_deadline() {
    let (mut state, now) = (acknowledged(), Instant::now());
    assert_eq!(state.blocked(now), Blocked::Wait);
    state.close(CloseReason::HeartbeatTimeout);
    let by = now + FLUSH_TIMEOUT;
    assert_eq!(state.blocked(now), Blocked::FlushBy(by));
    // The deadline does not move.
    let later = now + SECOND / 2;
    assert_eq!(state.blocked(later), Blocked::FlushBy(by));
    let ending = CloseReason::HeartbeatTimeout.into();
    assert_eq!(steps(&mut state, later), [CloseStep::Flush { ending, by }]);
}

#[test]
fn a_connection_that_was_taken_from_its_client_ends_also_while_its_socket_takes_no_more() {
    let (mut state, now) = (acknowledged(), Instant::now());
    let limits = LiveLimits::new(&GateConfig::default());
    state.replay = Some(Box::new(Replay::new(&limits)));
    assert_eq!(state.blocked(now), Blocked::Wait);
    assert!(state.detach());
    assert_eq!(
        state.blocked(now),
        Blocked::Abort(CloseReason::Client.into())
    );
}

#[test]
fn a_slow_client_is_closed_at_once_and_sent_nothing_more() {
    let config = config(SlowClient::Disconnect);
    let now = Instant::now();
    for draining in [false, true] {
        let mut state = acknowledged();
        state.in_flight.insert(1, None, Unanswered::default());
        if draining {
            state.close(CloseReason::Shutdown);
        }
        push(&mut state, 90, &config).unwrap();
        assert_eq!(push(&mut state, 20, &config), Err(Refusal::Disconnected));
        assert_eq!(push(&mut state, 1, &config), Err(Refusal::Closed));
        assert_eq!(
            state.blocked(now),
            Blocked::Abort(CloseReason::SlowClient.into())
        );
        let end = flush(CloseReason::SlowClient, now);
        assert_eq!(steps(&mut state, now), [end]);
        assert_eq!(state.queue.take(&mut Default::default()), 0);
    }
}

#[test]
fn only_pushes_are_dropped_for_a_slow_client() {
    let config = config(SlowClient::DropPushes);
    let mut state = acknowledged();
    push(&mut state, 100, &config).unwrap();
    assert_eq!(push(&mut state, 1, &config), Err(Refusal::Dropped));
    assert!(state.is_open());
    let response = state.admit(1, false, &config);
    assert_eq!(response, Err(Refusal::Disconnected));
}

#[test]
fn input_behind_a_close_is_not_wanted_also_in_the_middle_of_a_packet() {
    let mut bytes = BytesMut::new();
    packet::encode(Kind::Data, b"hello", &mut bytes).unwrap();
    let (first, second) = bytes.split_at(6);
    let (mut state, mut decoder) = (acknowledged(), Decoder::new(100));
    decoder.feed(first);
    assert_eq!(decoder.decode().unwrap(), None);
    state.close(CloseReason::Closed(String::new()));
    if state.is_open() {
        decoder.feed(second);
    }
    assert_eq!(decoder.decode().unwrap(), None);
    assert_eq!(
        steps(&mut state, Instant::now()).len(),
        1,
        "nothing but the flush"
    );
}

#[test]
fn a_closed_client_keeps_nothing() {
    let config = config(SlowClient::Disconnect);
    let (mut state, now) = (acknowledged(), Instant::now());
    push(&mut state, 10, &config).unwrap();
    state.in_flight.insert(1, None, Unanswered::default());
    let mut left = state.end();
    assert_eq!(left.queue.take(&mut Default::default()), 1);
    assert!(state.in_flight.is_empty());
    state.close(CloseReason::Client);
    assert_eq!(push(&mut state, 10, &config), Err(Refusal::Closed));
    assert_eq!(state.next_step(now), CloseStep::Stay);
    assert_eq!(state.ending(), None);
}

#[test]
fn a_client_over_its_rate_is_kicked() {
    let now = Instant::now();
    let limit = RateLimit::disconnect(2, 1);
    let mut bucket = Bucket::new(&limit, now);
    assert_eq!(bucket.take(&limit, now), Ok(()));
    assert_eq!(bucket.take(&limit, now), Err(SECOND / 2));

    let mut state = acknowledged();
    state.close(CloseReason::RateLimit);
    assert_eq!(
        steps(&mut state, now),
        [
            kick(CloseReason::RateLimit),
            flush(CloseReason::RateLimit, now)
        ]
    );
}

#[test]
fn the_handshake_has_a_deadline_until_it_is_acknowledged() {
    let start = Instant::now();
    let mut liveness = Liveness::new(None, SECOND, (start, start));
    assert_eq!(liveness.receive(Kind::Handshake, start), Step::Handshake);
    assert_eq!(liveness.next_deadline(), Some(start + SECOND));
    let early = start + SECOND / 2;
    assert_eq!(liveness.on_deadline(early), Tick::Nothing);
    let late = liveness.on_deadline(start + SECOND);
    assert_eq!(late, Tick::Close(CloseReason::HandshakeTimeout));

    let mut liveness = Liveness::new(None, SECOND, (start, start));
    assert!(matches!(
        liveness.receive(Kind::Data, start),
        Step::Close(CloseReason::Protocol(_))
    ));
    assert_eq!(liveness.receive(Kind::Ack, start), Step::Acknowledged);
    assert_eq!(liveness.receive(Kind::Ack, start), Step::Nothing);
    assert_eq!(liveness.receive(Kind::Data, start), Step::Data);
    assert_eq!(liveness.next_deadline(), None);
}

#[test]
fn a_client_that_is_silent_for_two_heartbeat_intervals_times_out() {
    let start = Instant::now();
    let mut liveness = Liveness::new(Some(SECOND), 100 * SECOND, (start, start));
    liveness.receive(Kind::Ack, start);
    for beat in 1..3 {
        let due = start + beat * SECOND;
        assert_eq!(liveness.next_deadline(), Some(due));
        assert_eq!(liveness.on_deadline(due), Tick::Heartbeat);
    }
    let silent = Tick::Close(CloseReason::HeartbeatTimeout);
    assert_eq!(liveness.on_deadline(start + 3 * SECOND), silent);
    // The socket was not read: the silence is the node's.
    liveness.touch(start + 2 * SECOND);
    let touched = liveness.on_deadline(start + 3 * SECOND);
    assert_eq!(touched, Tick::Heartbeat);
}

#[test]
fn heartbeats_of_many_connections_fall_together() {
    let gate = Instant::now();
    let first = |after: u32| {
        let begun = gate + after * SECOND / 1000;
        let liveness = Liveness::new(Some(10 * SECOND), 100 * SECOND, (gate, begun));
        let next = liveness.next_deadline().unwrap();
        // Early, so that the second one precedes the end of a silent client.
        let early = begun + 10 * SECOND - next;
        assert!(early < SECOND / 50, "{early:?}");
        next
    };
    let deadlines: HashSet<_> = (0..1000).map(first).collect();
    assert_eq!(deadlines.len(), 52, "in a second of a 512th of ten each");
}

#[test]
fn heartbeats_are_in_phase_again_after_missed_ones() {
    let (gate, interval) = (Instant::now(), 10 * SECOND);
    let begun = gate + SECOND / 7;
    let begin = || Liveness::new(Some(interval), 100 * SECOND, (gate, begun));
    let due = begin().next_deadline().unwrap();
    for late in [SECOND / 300, 10 * SECOND, 25 * SECOND + SECOND / 300] {
        let now = due + late;
        let mut liveness = begin();
        liveness.receive(Kind::Ack, now);
        assert_eq!(liveness.on_deadline(now), Tick::Heartbeat);
        let next = liveness.next_deadline().unwrap();
        let phase = (next - gate).as_nanos() % (interval / 512).as_nanos();
        assert_eq!(phase, 0, "{late:?} late");
        assert!(next + interval / 512 > now + interval, "{late:?} late");
    }
}

#[test]
fn messages_wait_for_the_acknowledgement_behind_what_the_handshake_sends() {
    let config = config(SlowClient::DropPushes);
    let mut state = ClientState::default();
    let sent = |state: &mut ClientState| {
        let mut chunks = Default::default();
        state.queue.take(&mut chunks);
        chunks.into_iter().flatten().collect::<Vec<u8>>()
    };
    push(&mut state, 100, &config).unwrap();
    assert_eq!(push(&mut state, 1, &config), Err(Refusal::Dropped));
    // Messages that wait leave room for the handshake reply.
    assert!(state.admit_control(Kind::Handshake, 3, &config));
    state.queue.packet(&Bytes::from_static(&[1; 3]));
    assert_eq!(sent(&mut state), [1; 3]);
    state.queue.packet(&Bytes::from_static(&[1; 3]));
    state.acknowledge();
    push(&mut state, 1, &config).unwrap_err();
    assert_eq!(sent(&mut state), [vec![1; 3], vec![0; 100]].concat());
}
