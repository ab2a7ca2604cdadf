//! A client that may return, in any sequence of messages, losses, returns and moves: it gets every
//! message once and in order, or its session ends.

use bytes::BytesMut;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    gate::config::{GateConfig, SlowClient},
    message::Message,
    packet::{self, Decoder},
};

/// The number of a message, ahead of its padding.
const NUMBER: usize = 8;

#[derive(Clone, Debug)]
enum Event {
    /// A push, or a response, with so many bytes of padding.
    Send(usize, bool),
    /// The client sends a data packet.
    Receive,
    /// The connection's task writes what may be written.
    Write,
    /// The client reads so many bytes.
    Read(usize),
    Acknowledge,
    /// The client sends a heartbeat with its count.
    Heartbeat,
    /// The connection is lost, which the gate notices or not.
    Loss(bool),
    /// The client is back, with its handshake.
    Return,
    Move(Fate),
}

/// What becomes of a session that is about to move.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Moves,
    Stays,
    /// It is closed meanwhile, and stays.
    Closes,
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![6 => Just(Fate::Moves), 4 => Just(Fate::Stays), 1 => Just(Fate::Closes)];
    prop_oneof![
        12 => (0..60usize, any::<bool>()).prop_map(|(len, push)| Event::Send(len, push)),
        2 => Just(Event::Receive),
        6 => Just(Event::Write),
        8 => (0..200usize).prop_map(Event::Read),
        5 => Just(Event::Acknowledge),
        2 => Just(Event::Heartbeat),
        2 => any::<bool>().prop_map(Event::Loss),
        5 => Just(Event::Return),
        2 => fate.prop_map(Event::Move),
    ]
}

/// How a run ended before everything had arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client cannot return, or its session was closed.
    Lost(Lost),
    Closed,
}

struct Client {
    /// Whether its connection is open at both ends.
    connected: bool,
    decoder: Decoder,
    answered: bool,
    acknowledged: bool,
    /// The messages it has received, and those that it has sent.
    received: u64,
    sent: u64,
}

struct World {
    state: ClientState,
    limits: LiveLimits,
    pipeline: bool,
    now: Instant,
    client: Client,
    wire: VecDeque<u8>,
    /// The messages that the gate has taken for the client.
    accepted: u64,
}

impl World {
    fn new(limits: LiveLimits, pipeline: bool) -> Self {
        let state = ClientState {
            replay: Some(Box::new(Replay::new(&limits))),
            ..ClientState::default()
        };
        let mut world = Self {
            state,
            limits,
            pipeline,
            now: Instant::now(),
            client: Client {
                connected: true,
                decoder: Decoder::new(1 << 16),
                answered: false,
                acknowledged: false,
                received: 0,
                sent: 0,
            },
            wire: VecDeque::new(),
            accepted: 0,
        };
        world.reply();
        world
    }

    /// Queues the reply to a handshake.
    fn reply(&mut self) {
        let limits = &self.limits;
        if self.state.admit_control(Kind::Handshake, 2, limits) {
            let queue = &mut self.state.queue;
            queue
                .write(|out| packet::encode(Kind::Handshake, b"{}", out))
                .unwrap();
            self.state.answer();
        }
    }

    fn send(&mut self, len: usize, push: bool) {
        let mut body = self.accepted.to_be_bytes().to_vec();
        body.resize(NUMBER + len, 0);
        let mut packet = BytesMut::new();
        packet::encode(Kind::Data, &body, &mut packet).unwrap();
        let size = if self.pipeline {
            body.len()
        } else {
            packet.len()
        };
        if self.state.admit(size, push, &self.limits).is_err() {
            return;
        }
        match self.pipeline {
            true => {
                let message = Message::push("on", body);
                self.state.messages().message(message);
            }
            false => self.state.messages().packet(&packet.freeze()),
        }
        self.accepted += 1;
    }

    /// As the connection's task does it, ahead of each write and of a move.
    fn run_pipeline(&mut self) {
        for message in self.state.queue.take_unprocessed() {
            let queue = &mut self.state.queue;
            queue
                .write(|out| packet::encode(Kind::Data, &message.body, out))
                .unwrap();
        }
    }

    fn write(&mut self) -> Result<(), End> {
        if self.state.is_away() {
            return Ok(());
        }
        self.run_pipeline();
        if self.state.next_step(self.now) != CloseStep::Stay {
            return Err(End::Closed);
        }
        let mut chunks = VecDeque::new();
        self.state.take(&mut chunks);
        if self.client.connected {
            self.wire.extend(chunks.into_iter().flatten());
        }
        Ok(())
    }

    fn read(&mut self, len: usize) {
        let (len, client) = (len.min(self.wire.len()), &mut self.client);
        let bytes: Vec<_> = self.wire.drain(..len).collect();
        client.decoder.feed(&bytes);
        while let Some(packet) = client.decoder.decode().unwrap() {
            match packet.kind {
                Kind::Handshake => client.answered = true,
                Kind::Data => {
                    assert!(client.acknowledged, "ahead of the acknowledgement");
                    let number = packet.body[..NUMBER].try_into().unwrap();
                    let number = u64::from_be_bytes(number);
                    assert_eq!(number, client.received, "once, and in order");
                    client.received += 1;
                }
                _ => assert!(client.answered, "ahead of the handshake reply"),
            }
        }
    }

    fn acknowledge(&mut self) {
        let client = &mut self.client;
        if client.connected && client.answered && !client.acknowledged && self.state.is_open() {
            client.acknowledged = true;
            self.state.acknowledge();
        }
    }

    /// A heartbeat has the count in seven bits a byte, lowest first.
    fn heartbeat(&mut self) {
        if !self.client.connected || !self.client.acknowledged {
            return;
        }
        let (mut count, mut body) = (self.client.received, Vec::new());
        while count >= 0x80 {
            body.push(count as u8 | 0x80);
            count >>= 7;
        }
        body.push(count as u8);
        if let Some(replay) = &mut self.state.replay {
            replay.on_heartbeat(&body).unwrap();
        }
    }

    fn lose(&mut self) {
        let client = &mut self.client;
        (client.connected, client.answered, client.acknowledged) = (false, false, false);
        client.decoder = Decoder::new(1 << 16);
        self.wire.clear();
    }

    /// The client returns, also while its old connection is open.
    fn come_back(&mut self) -> Result<(), End> {
        self.lose();
        let received = self.client.received;
        self.state.check_return(received).map_err(End::Lost)?;
        assert!(self.state.detach());
        self.state.attach(received).map_err(End::Lost)?;
        let counted = self.state.replay.as_ref().unwrap().received();
        assert_eq!(counted, self.client.sent, "what the client sends again");
        self.client.connected = true;
        self.reply();
        Ok(())
    }

    /// Moves the session, if it can move now.
    fn change_gates(&mut self, fate: Fate) -> Result<(), End> {
        if self.state.check_movable(&[]).is_err() {
            return Ok(());
        }
        self.lose();
        assert!(self.state.detach());
        self.run_pipeline();
        let Some(taken) = self.state.take_moving(&[]) else {
            return Ok(());
        };
        let refused = self.state.admit(1, true, &self.limits);
        assert_eq!(refused, Err(Refusal::Closed));
        match fate {
            Fate::Moves => {
                let snapshot = taken.replay.as_ref().unwrap().snapshot();
                let replay = Replay::adopted(&self.limits, snapshot).unwrap();
                self.state = ClientState::adopted(false, replay, Requests::default());
            }
            Fate::Stays => self.state.put_back(taken),
            Fate::Closes => {
                let closed = CloseReason::Closed(String::new());
                assert!(self.state.try_close(closed.into()));
                self.state.put_back(taken);
                assert!(self.state.ending().is_some());
                return Err(End::Closed);
            }
        }
        Ok(())
    }

    fn apply(&mut self, event: &Event) -> Result<(), End> {
        match *event {
            Event::Send(len, push) => self.send(len, push),
            Event::Receive => {
                if self.client.connected && self.client.acknowledged {
                    self.client.sent += 1;
                    let replay = self.state.replay.as_mut();
                    replay.unwrap().receive(1, 1);
                }
            }
            Event::Write => self.write()?,
            Event::Read(len) => self.read(len),
            Event::Acknowledge => self.acknowledge(),
            Event::Heartbeat => self.heartbeat(),
            Event::Loss(noticed) => {
                self.lose();
                if noticed {
                    self.state.detach();
                }
            }
            Event::Return => self.come_back()?,
            Event::Move(fate) => self.change_gates(fate)?,
        }
        match self.state.ending() {
            Some(_) => Err(End::Closed),
            None => Ok(()),
        }
    }

    /// Plays the events; at the end everything arrives.
    fn run(&mut self, events: &[Event], most: usize) -> Result<(), End> {
        for event in events {
            self.apply(event)?;
            assert!(self.state.queued_bytes() <= most, "the queue is bounded");
        }
        self.come_back()?;
        for _ in 0..3 {
            self.write()?;
            self.read(usize::MAX);
            self.acknowledge();
        }
        assert_eq!(self.client.received, self.accepted, "nothing is lost");
        Ok(())
    }
}

/// Bounds of the queue, and of what is kept.
fn limits(queue: (usize, usize), kept: (usize, usize), slow_client: SlowClient) -> LiveLimits {
    LiveLimits::new(&GateConfig {
        queue_bytes: queue.0,
        queue_messages: queue.1,
        unacknowledged_bytes: Some(kept.0),
        unacknowledged_messages: Some(kept.1),
        slow_client,
        ..GateConfig::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_message_arrives_once_and_in_order(events in vec(event(), 0..150), pipeline: bool) {
        let closes = events.iter().any(|event| matches!(event, Event::Move(Fate::Closes)));
        let mut world = World::new(LiveLimits::new(&GateConfig::default()), pipeline);
        let result = world.run(&events, usize::MAX);
        prop_assert!(result.is_ok() || closes, "{:?}", result);
    }

    #[test]
    fn within_bounds_everything_arrives_or_the_session_ends(
        events in vec(event(), 0..150),
        queue in (40..600usize, 1..20usize),
        kept in (40..600usize, 1..20usize),
        pipeline: bool,
        drops: bool,
    ) {
        let slow = if drops { SlowClient::DropPushes } else { SlowClient::Disconnect };
        let mut world = World::new(limits(queue, kept, slow), pipeline);
        // What is kept, what is queued, and one packet more of each.
        let result = world.run(&events, queue.0 + kept.0 + 200);
        let ended = [Ok(()), Err(End::Closed), Err(End::Lost(Lost::Overflow)), Err(End::Lost(Lost::Closed))];
        prop_assert!(ended.contains(&result), "{:?}", result);
    }
}

#[test]
fn no_more_is_kept_of_what_a_client_has_not_acknowledged_than_its_bound_says() {
    let many = (usize::MAX, usize::MAX);
    let disconnects = SlowClient::Disconnect;
    let packet = packet::HEADER + NUMBER + 1;
    for kept in [(usize::MAX, 3), (3 * packet + 1, usize::MAX)] {
        let mut world = World::new(limits(many, kept, disconnects), false);
        world.write().unwrap();
        world.read(usize::MAX);
        world.acknowledge();
        for _ in 0..10 {
            world.send(1, true);
            world.write().unwrap();
        }
        let replay = world.state.replay.as_ref().unwrap();
        assert_eq!(replay.unacknowledged(), (3 * packet, 3));
    }
}

#[test]
fn a_client_that_returns_after_an_hour_without_a_message_misses_nothing() {
    use crate::gate::liveness::{Liveness, Tick};

    let beat = Duration::from_secs(30);
    let mut world = World::new(LiveLimits::new(&GateConfig::default()), false);
    world.write().unwrap();
    world.read(usize::MAX);
    world.acknowledge();
    let mut liveness = Liveness::new(Some(beat), beat, (world.now, world.now));
    liveness.receive(Kind::Ack, world.now);
    for _ in 0..120 {
        world.now += beat;
        assert_eq!(liveness.on_deadline(world.now), Tick::Heartbeat);
        liveness.receive(Kind::Heartbeat, world.now);
        world.heartbeat();
        world.write().unwrap();
    }
    let (kept, messages) = world.state.replay.as_ref().unwrap().unacknowledged();
    assert_eq!(
        (kept, messages, world.wire.len()),
        (0, 0, 0),
        "it keeps nothing"
    );
    world.send(1, true);
    world.write().unwrap();
    world.lose();
    world.state.detach();
    world.send(1, true);
    assert_eq!(world.run(&[], usize::MAX), Ok(()));
    assert_eq!(world.client.received, 2);
}
