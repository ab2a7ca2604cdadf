//! Two ends of a session over connections that are cut anywhere.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use nano_protocol::{
    handshake::{Reply, ReplyTemplate, Request, Sys},
    message::Dictionary,
    packet::{self, Decoder, Kind},
    resume::{AckError, Ask, Endpoint, Grant, Limits, Lost},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

/// One end with its application: sends numbered messages, checks what it receives.
struct Side {
    endpoint: Endpoint,
    next: u64,
    expected: u64,
    /// The heartbeats that have arrived.
    heartbeats: u64,
    decoder: Decoder,
    /// Bytes on their way to the other end.
    wire: VecDeque<u8>,
    /// Chunks that others hold, too: they are shared, where others are copied.
    shared: Vec<Bytes>,
}

impl Side {
    fn new(limits: Limits) -> Self {
        Self {
            endpoint: Endpoint::new(limits),
            next: 0,
            expected: 0,
            heartbeats: 0,
            decoder: Decoder::new(1024),
            wire: VecDeque::new(),
            shared: Vec::new(),
        }
    }

    fn send(&mut self, size: usize) {
        let mut body = self.next.to_be_bytes().to_vec();
        body.resize(8 + size, 0);
        self.next += 1;
        let mut out = BytesMut::new();
        packet::encode(Kind::Data, &body, &mut out).unwrap();
        let chunk = out.freeze();
        if size.is_multiple_of(3) {
            self.shared.push(chunk.clone());
        }
        self.endpoint.record(&chunk);
        self.wire.extend(chunk);
        self.send_due();
    }

    fn heartbeat(&mut self) {
        let (mut body, mut out) = (Vec::new(), BytesMut::new());
        self.endpoint.heartbeat(&mut body);
        packet::encode(Kind::Heartbeat, &body, &mut out).unwrap();
        self.wire.extend(out);
    }

    fn send_due(&mut self) {
        while self.endpoint.heartbeat_due() {
            self.heartbeat();
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.wire.len());
        self.wire.drain(..count).collect()
    }

    fn arrive(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
        while let Some(packet) = self.decoder.decode().unwrap() {
            match packet.kind {
                Kind::Data => {
                    self.endpoint.receive(packet.body.len());
                    let number = u64::from_be_bytes(packet.body[..8].try_into().unwrap());
                    assert_eq!(number, self.expected, "exactly once, in order");
                    self.expected += 1;
                }
                _ => {
                    self.heartbeats += 1;
                    self.endpoint.on_heartbeat(&packet.body).unwrap();
                }
            }
        }
        self.send_due();
    }

    fn cut(&mut self) {
        self.decoder = Decoder::new(1024);
        self.wire.clear();
    }

    fn resume(&mut self, received: u64) -> Result<(), Lost> {
        for chunk in self.endpoint.resume(received)? {
            self.wire.extend(chunk);
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Event {
    Send(bool, usize),
    Deliver(bool, usize),
    Heartbeat(bool),
    /// Cuts after so many more bytes of each direction have arrived.
    Cut(usize, usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any::<bool>(), 0..40usize).prop_map(|(to, size)| Event::Send(to, size)),
        4 => (any::<bool>(), 0..120usize).prop_map(|(to, bytes)| Event::Deliver(to, bytes)),
        1 => any::<bool>().prop_map(Event::Heartbeat),
        1 => (0..200usize, 0..200usize).prop_map(|(a, b)| Event::Cut(a, b)),
    ]
}

/// Runs a schedule; true if the session survived, with everything delivered.
fn run(events: &[Event], limits: Limits) -> Result<(), Lost> {
    let mut sides = [Side::new(limits), Side::new(limits)];
    let deliver = |sides: &mut [Side; 2], to: bool, bytes: usize| {
        let data = sides[usize::from(!to)].take(bytes);
        sides[usize::from(to)].arrive(&data);
    };
    for event in events {
        match *event {
            Event::Send(from, size) => sides[usize::from(from)].send(size),
            Event::Deliver(to, bytes) => deliver(&mut sides, to, bytes),
            Event::Heartbeat(from) => sides[usize::from(from)].heartbeat(),
            Event::Cut(first, second) => {
                deliver(&mut sides, false, first);
                deliver(&mut sides, true, second);
                sides.iter_mut().for_each(Side::cut);
                let received = sides.each_ref().map(|side| side.endpoint.received());
                let [left, right] = &mut sides;
                left.resume(received[1])?;
                right.resume(received[0])?;
            }
        }
    }
    while sides.iter().any(|side| !side.wire.is_empty()) {
        deliver(&mut sides, false, usize::MAX);
        deliver(&mut sides, true, usize::MAX);
    }
    assert_eq!(sides[0].next, sides[1].expected, "nothing is lost");
    assert_eq!(sides[1].next, sides[0].expected, "nothing is lost");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_message_arrives_exactly_once_and_in_order(events in vec(event(), 0..120)) {
        prop_assert_eq!(run(&events, Limits::default()), Ok(()));
    }

    #[test]
    fn within_bounds_everything_arrives_or_the_session_is_lost(events in vec(event(), 0..120), bytes in 1..400usize, messages in 1..20usize) {
        let result = run(&events, Limits::new(bytes, messages));
        prop_assert!(matches!(result, Ok(()) | Err(Lost::Overflow)), "{:?}", result);
    }

    #[test]
    fn what_is_kept_stays_within_its_limits(sizes in vec(0..100usize, 1..60), bytes in 200..400usize, messages in 1..20usize) {
        let mut side = Side::new(Limits::new(bytes, messages));
        for size in sizes {
            side.send(size);
            let (kept, count) = side.endpoint.unacknowledged();
            prop_assert!(kept <= bytes && count <= messages);
        }
    }

    #[test]
    fn the_fields_survive_the_wire(token in "\\PC{0,40}", received: u64, seconds in 0..100_000u64, lost in 0..7usize) {
        let lost = [None, Some(Lost::Unknown), Some(Lost::Expired), Some(Lost::Overflow), Some(Lost::Closed), Some(Lost::Invalid), Some(Lost::Unsupported)][lost];
        let ask = Ask::Return { token: token.clone(), received: Some(received) };
        let request = Request::new(Sys::new("test", "1"), Value::Null).with_resume(&ask);
        prop_assert_eq!(Request::decode(&request.encode()).resume(), Some(ask));

        let grant = Grant::new(token, Duration::from_secs(seconds)).with_received(received).with_lost(lost);
        let reply = Reply::accepted().with_servertime(7).with_resume(grant.clone());
        prop_assert_eq!(Reply::decode(&reply.encode()).unwrap(), reply.clone());
        let template = ReplyTemplate::new(None, &Dictionary::default());
        prop_assert_eq!(template.encode_resumable(7, None, &grant), reply.encode());
    }
}

#[test]
fn the_fields_are_written_as_documented() {
    let template = ReplyTemplate::new(Some(Duration::from_secs(30)), &Dictionary::default());
    let grant = Grant::new("T2", Duration::from_secs(60)).with_received(5);
    assert_eq!(
        String::from_utf8(template.encode_resumable(9, None, &grant.with_lost(Lost::Expired)))
            .unwrap(),
        r#"{"code":200,"sys":{"heartbeat":30,"resume":{"lost":"expired","received":5,"token":"T2","window":60},"servertime":9}}"#
    );
    assert_eq!(
        String::from_utf8(template.encode(9, None)).unwrap(),
        r#"{"code":200,"sys":{"heartbeat":30,"servertime":9}}"#
    );
}

#[test]
fn a_field_of_another_form_asks_for_nothing_or_names_no_session() {
    let ask = |field: Value| {
        Request::decode(json!({ "sys": { "resume": field } }).to_string().as_bytes()).resume()
    };
    for nothing in [json!(null), json!(true), json!(1), json!("x"), json!([])] {
        assert_eq!(ask(nothing), None);
    }
    assert_eq!(ask(json!({})), Some(Ask::Open));
    for received in [json!(null), json!(-1), json!(1.5), json!("1"), json!(1e30)] {
        assert_eq!(
            ask(json!({ "token": 7, "received": received })),
            Some(Ask::Return {
                token: String::new(),
                received: None
            })
        );
    }
}

#[test]
fn a_session_resumes_before_anything_was_received() {
    let mut side = Side::new(Limits::default());
    assert_eq!(side.endpoint.resume(0), Ok(Vec::new()));
}

#[test]
fn a_session_resumes_a_hundred_times_in_a_row() {
    let cut = Event::Cut(0, 0);
    let sends = [Event::Send(true, 3), Event::Send(false, 3)];
    let events: Vec<_> = (0..100)
        .flat_map(|_| [sends[0].clone(), sends[1].clone(), cut.clone()])
        .collect();
    assert_eq!(run(&events, Limits::default()), Ok(()));
}

#[test]
fn counts_that_cannot_be_right_are_refused_and_change_nothing() {
    let mut side = Side::new(Limits::default());
    (0..3).for_each(|_| side.send(0));
    assert_eq!(side.endpoint.on_heartbeat(&[2]), Ok(()));
    assert_eq!(side.endpoint.on_heartbeat(&[4]), Err(AckError::Ahead));
    assert_eq!(side.endpoint.on_heartbeat(&[1]), Err(AckError::Backwards));
    assert_eq!(
        side.endpoint.on_heartbeat(&[0x80]),
        Err(AckError::Malformed)
    );
    assert_eq!(side.endpoint.resume(4), Err(Lost::Invalid));
    assert_eq!(side.endpoint.resume(1), Err(Lost::Invalid));
    assert_eq!(side.endpoint.resume(2).map(|chunks| chunks.len()), Ok(1));
}

#[test]
fn only_data_packets_are_counted_and_sent_again() {
    let mut out = BytesMut::new();
    for (kind, body) in [
        (Kind::Heartbeat, &b""[..]),
        (Kind::Data, b"one"),
        (Kind::Data, b"two"),
        (Kind::Handshake, b"{}"),
        (Kind::Data, b"three"),
        (Kind::Kick, b"{}"),
    ] {
        packet::encode(kind, body, &mut out).unwrap();
    }
    let mut endpoint = Endpoint::new(Limits::default());
    endpoint.record(&out.freeze());
    assert_eq!(endpoint.sent(), 3);
    let replay: Vec<Bytes> = endpoint.resume(1).unwrap();
    assert_eq!(replay.concat(), b"\x04\0\0\x03two\x04\0\0\x05three");
}

#[test]
fn half_of_the_limits_makes_both_ends_acknowledge() {
    let mut sides = [
        Side::new(Limits::new(10_000, 4)),
        Side::new(Limits::default()),
    ];
    (0..3).for_each(|_| sides[0].send(0));
    let bytes = sides[0].take(usize::MAX);
    sides[1].arrive(&bytes);
    let bytes = sides[1].take(usize::MAX);
    assert!(!bytes.is_empty(), "the question is answered with a count");
    sides[0].arrive(&bytes);
    assert_eq!(sides[0].endpoint.unacknowledged(), (0, 0));
    assert!(sides[0].take(usize::MAX).is_empty(), "and not again");
}

#[test]
fn a_question_that_tells_something_new_is_sent_again_so_that_it_repeats_a_count() {
    let mut sides = [
        Side::new(Limits::new(10_000, 4)),
        Side::new(Limits::default()),
    ];
    sides[1].send(0);
    let bytes = sides[1].take(usize::MAX);
    sides[0].arrive(&bytes);
    (0..2).for_each(|_| sides[0].send(0));
    let bytes = sides[0].take(usize::MAX);
    sides[1].arrive(&bytes);
    sides[0].send(0);
    let bytes = sides[0].take(usize::MAX);
    sides[1].arrive(&bytes);
    assert_eq!(sides[1].heartbeats, 2);
    let bytes = sides[1].take(usize::MAX);
    sides[0].arrive(&bytes);
    assert_eq!(sides[0].endpoint.unacknowledged(), (0, 0));
    assert_eq!(sides[0].heartbeats, 1, "and was answered once");
}

#[test]
fn ends_that_both_send_all_the_time_do_not_answer_each_other_for_ever() {
    let mut sides = [Limits::default(), Limits::default()].map(Side::new);
    const ROUNDS: u64 = 2560;
    let mut on_their_way = VecDeque::from(vec![[Vec::new(), Vec::new()]; 3]);
    for _ in 0..ROUNDS {
        sides.iter_mut().for_each(|side| side.send(0));
        on_their_way.push_back(sides.each_mut().map(|side| side.take(usize::MAX)));
        let sent = on_their_way.pop_front().unwrap();
        sides[0].arrive(&sent[1]);
        sides[1].arrive(&sent[0]);
    }
    for side in &sides {
        let expected = ROUNDS / 256 - 1..=ROUNDS / 256;
        assert!(expected.contains(&side.heartbeats), "{}", side.heartbeats);
    }
}
