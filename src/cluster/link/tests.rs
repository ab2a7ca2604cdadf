//! Link states: input by input here, in pairs with faults in `pair`.

use std::{
    fs,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use metrics::Gauge;
use tokio::time::Instant;

use super::{
    activity::OpenCalls,
    config::{CREDIT, FAIR_SHARE, MESSAGE_BYTES, WINDOW},
    effect::Effect,
    proto::{Frame, Kind},
    served_session::NewSession,
    state::LinkState,
    stream::LinkStream,
};
use crate::{
    cluster::pending_calls::StreamId,
    dispatch::ForwardError,
    error::code,
    memory_budget::{MemoryBudget, PeerCharge},
    message::Message,
    mock,
    session::Session,
};

mod moving;
mod one_way;
mod pair;
mod user_pushes;

#[test]
fn link_seeds_pass_the_link_check() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/link");
    for seed in fs::read_dir(seeds).unwrap() {
        super::fuzzing::check(&fs::read(seed.unwrap().path()).unwrap());
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The reader of a session that waits for room.
struct Reader {
    room: Pin<Box<dyn Future<Output = ()> + Send>>,
    woken: Arc<Woken>,
}

impl Reader {
    fn goes_on(&mut self) -> bool {
        let waker = Waker::from(self.woken.clone());
        self.room
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
    }

    fn woken(&self) -> usize {
        self.woken.0.load(Ordering::Relaxed)
    }
}

/// Feeds an input, wakes what is to be woken, and ends the pushes to users that have ended by it.
fn feed(
    stream: &LinkStream,
    input: impl FnOnce(&mut LinkState<Session>, &mut Vec<Effect<Session>>),
) {
    let mut effects = Vec::new();
    stream.input(|state| input(state, &mut effects));
    for effect in effects {
        match effect {
            Effect::Wake(waker) => waker.wake(),
            Effect::UserPushesEnded(ended) => {
                for (done, unreached) in ended {
                    done.send(unreached).unwrap();
                }
            }
            _ => {}
        }
    }
}

fn up() -> Arc<LinkStream> {
    let id = StreamId {
        incarnation: 1,
        index: 0,
    };
    let stream = LinkStream::new(id, 1, (Duration::from_secs(10), None));
    feed(&stream, |state, effects| {
        state.connecting(1);
        state.outbound_up(1, 1, effects);
    });
    stream
}

/// Sends a message. Returns the reader if it has to wait.
fn send(stream: &Arc<LinkStream>, session: &Session, body: usize) -> Option<Reader> {
    let message = Message::notify("Room.Say", Bytes::from(vec![0; body]));
    let frame = |message: Message| {
        Frame::message(
            Kind::Message,
            session.id(),
            message.id,
            message.route,
            message.body,
        )
    };
    match stream.message(session, message, frame) {
        Ok(()) => None,
        Err(ForwardError::Full(_, room)) => Some(Reader {
            room,
            woken: Arc::default(),
        }),
        Err(ForwardError::Error(error)) => panic!("{error}"),
    }
}

/// Sends until there is no room, and waits for some.
fn fill(stream: &Arc<LinkStream>, session: &Session, body: usize) -> (usize, Reader) {
    for sent in 0.. {
        if let Some(mut reader) = send(stream, session, body) {
            assert!(!reader.goes_on());
            return (sent, reader);
        }
    }
    unreachable!()
}

/// The next batch, if there is one.
fn batch(stream: &LinkStream) -> Vec<Frame> {
    match stream.poll_batch(1, Waker::noop()) {
        Poll::Ready(batch) => batch.unwrap().frames,
        Poll::Pending => Vec::new(),
    }
}

#[test]
fn a_session_that_fills_the_queue_waits_until_half_of_it_is_sent_and_others_do_not() {
    let (stream, (greedy, _), (small, _)) = (up(), mock::session(), mock::session());
    let (sent, mut reader) = fill(&stream, &greedy, FAIR_SHARE);
    assert!((60..70).contains(&sent), "about 1 MiB: {sent}");
    assert!(send(&stream, &small, 100).is_none());

    let mut gone = 0;
    while reader.woken() == 0 {
        let frames = batch(&stream);
        assert!(!frames.is_empty(), "woken before all is sent");
        gone += frames.len();
    }
    assert!((sent / 3..sent * 2 / 3).contains(&gone), "{gone} of {sent}");
    assert!(reader.goes_on());
}

#[test]
fn a_queue_above_its_share_of_the_memory_budget_takes_no_more_until_it_is_below() {
    let (stream, (session, _)) = (up(), mock::session());
    let memory = MemoryBudget::new(Some(1024 * 1024), Gauge::noop(), Gauge::noop());
    stream.input(|state| state.charge_to(PeerCharge::new(&memory)));
    memory.set_share(PeerCharge::STEP);
    let (sent, mut reader) = fill(&stream, &session, FAIR_SHARE);
    assert_eq!(sent * FAIR_SHARE, PeerCharge::STEP, "less than 1 MiB");
    assert_eq!(memory.used(), PeerCharge::STEP);
    let call = || stream.input(|state| state.call(Frame::default()).map(drop));
    assert_eq!(call().unwrap_err().code(), code::TOO_MANY);

    batch(&stream);
    assert_eq!(reader.woken(), 1, "as soon as it is below");
    assert!(reader.goes_on());
    call().unwrap();
    while !batch(&stream).is_empty() {}
    assert_eq!(memory.used(), 0);

    memory.set_share(usize::MAX);
    let (sent, another) = fill(&stream, &session, FAIR_SHARE);
    assert!(sent > 60, "about 1 MiB again: {sent}");
    drop((stream, reader, another));
    assert_eq!(memory.used(), 0);
}

#[test]
fn a_session_with_little_queued_goes_on_as_soon_as_the_queue_is_below_its_share_of_the_budget() {
    const SHARE: usize = 2 * MESSAGE_BYTES;
    let (stream, (small, _)) = (up(), mock::session());
    let memory = MemoryBudget::new(Some(4 * SHARE), Gauge::noop(), Gauge::noop());
    stream.input(|state| state.charge_to(PeerCharge::new(&memory)));
    memory.set_share(SHARE);
    // None of these may send twice, but each once.
    while send(&stream, &mock::session().0, FAIR_SHARE).is_none() {}
    assert!(stream.read(LinkState::queued_bytes) > SHARE);
    let mut reader = send(&stream, &small, 100).unwrap();
    assert!(!reader.goes_on());
    batch(&stream);
    let queued = stream.read(LinkState::queued_bytes);
    assert!((MESSAGE_BYTES..=SHARE).contains(&queued), "{queued}");
    assert_eq!(reader.woken(), 1);
    assert!(reader.goes_on());
}

#[test]
fn a_session_goes_on_when_its_own_messages_are_sent_however_many_others_wait() {
    let (stream, (first, _), (second, _)) = (up(), mock::session(), mock::session());
    // Both would have to wait until little is left, and the first has less of it.
    assert!(send(&stream, &first, 2 * FAIR_SHARE).is_none());
    let (_, _held) = fill(&stream, &second, FAIR_SHARE);
    let mut reader = send(&stream, &first, FAIR_SHARE).unwrap();
    assert!(!reader.goes_on());
    batch(&stream);
    assert_eq!(reader.woken(), 1);
    assert!(reader.goes_on());
}

#[test]
fn a_session_that_has_used_up_its_window_waits_for_credit() {
    let (stream, (session, _)) = (up(), mock::session());
    let (sent, mut reader) = fill(&stream, &session, 0);
    assert_eq!(sent, WINDOW as usize);
    while !batch(&stream).is_empty() {}
    assert_eq!(reader.woken(), 0, "sent, but not handled");
    feed(&stream, |state, effects| {
        let credit = Frame::credit(session.id(), CREDIT);
        state.answer(&credit, effects).unwrap();
    });
    assert_eq!(reader.woken(), 1);
    assert!(reader.goes_on());
}

#[test]
fn the_notice_of_a_lost_inbound_stream_is_sent_again_on_the_next_outbound_stream() {
    let stream = up();
    feed(&stream, |state, effects| {
        state.accept(5, 1, Instant::now(), effects).unwrap();
        state.inbound_down(5, Instant::now(), effects);
    });
    assert!(batch(&stream).contains(&Frame::stream_lost(5)));
    feed(&stream, |state, effects| {
        state.outbound_down(Instant::now(), effects);
        state.connecting(1);
        state.outbound_up(1, 1, effects);
    });
    let frames = batch(&stream);
    assert!(frames.contains(&Frame::stream_lost(5)), "{frames:?}");
}

fn stream_lost(stream: &LinkStream, lost: u64) {
    feed(stream, |state, effects| {
        let mut open = |_: NewSession<'_>| mock::session().0;
        let frame = Frame::stream_lost(lost);
        assert!(state.receive(5, frame, Instant::now, false, effects, &mut open));
    });
}

#[test]
fn a_stream_that_is_lost_before_it_is_up_never_comes_up() {
    let stream = up();
    feed(&stream, |state, effects| {
        state.accept(5, 1, Instant::now(), effects).unwrap();
        state.outbound_down(Instant::now(), effects);
        state.connecting(2);
    });
    stream_lost(&stream, 2);
    feed(&stream, |state, effects| state.outbound_up(2, 1, effects));
    assert!(!stream.read(LinkState::is_outbound_up));
    assert!(matches!(
        stream.poll_batch(2, Waker::noop()),
        Poll::Ready(None)
    ));
}

#[test]
fn a_peer_that_begins_anew_ends_the_stream_that_it_does_not_read() {
    for (epoch, lost) in [(1, false), (2, true), (0, false)] {
        let stream = up();
        feed(&stream, |state, effects| {
            state.accept(5, epoch, Instant::now(), effects).unwrap();
        });
        assert_eq!(stream.read(LinkState::is_outbound_up), !lost, "{epoch}");
    }
}

#[test]
fn readers_are_woken_when_their_session_or_the_stream_ends() {
    type End = fn(&mut LinkState<Session>, &mut Vec<Effect<Session>>, i64);
    let ends: [End; 4] = [
        |state, effects, id| {
            let unknown = Frame::session_unknown(id, 1);
            state.answer(&unknown, effects).unwrap();
        },
        |state, effects, _| state.outbound_down(Instant::now(), effects),
        |state, effects, _| {
            state.outbound_down(Instant::now(), effects);
            state.probe(
                Instant::now() + Duration::from_secs(11),
                OpenCalls::default(),
                effects,
            );
        },
        |state, effects, _| state.close(effects),
    ];
    for end in ends {
        for body in [0, FAIR_SHARE] {
            let (stream, (session, _)) = (up(), mock::session());
            let (_, reader) = fill(&stream, &session, body);
            feed(&stream, |state, effects| end(state, effects, session.id()));
            assert_eq!(reader.woken(), 1);
        }
    }
}

#[test]
fn a_link_that_is_not_needed_closes_in_order_and_the_next_frame_opens_it_again() {
    let id = StreamId {
        incarnation: 1,
        index: 0,
    };
    let times = (Duration::from_secs(10), Some(Duration::from_secs(1)));
    let stream = LinkStream::new(id, 1, times);
    let woken = Arc::new(Woken::default());
    let opener = Waker::from(woken.clone());
    let opens = || stream.input(|state| state.poll_open(&opener)).is_ready();
    let send = || {
        let frame = Frame::message(Kind::NodeCall, 0, 0, "A.B".into(), Bytes::new());
        stream.call(frame).unwrap();
    };
    let sent = |number| match stream.poll_batch(number, Waker::noop()) {
        Poll::Ready(Some(batch)) => batch.frames.iter().map(|frame| frame.kind()).collect(),
        Poll::Ready(None) => vec![Kind::None],
        Poll::Pending => Vec::new(),
    };
    let begun = Instant::now();
    let probe = |seconds| {
        let now = begun + Duration::from_secs(seconds);
        let mut next = None;
        feed(&stream, |state, effects| {
            next = state.probe(now, OpenCalls::default(), effects);
        });
        next.map(|at| at.duration_since(begun).as_secs())
    };

    assert!(!opens());
    send();
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the first frame");
    assert!(opens());
    feed(&stream, |state, effects| {
        state.connecting(1);
        state.outbound_up(1, 1, effects);
    });
    assert_eq!(sent(1), [Kind::ResyncDone, Kind::NodeCall]);
    feed(&stream, |state, effects| {
        state.accept(1, 1, begun, effects).unwrap();
        assert!(state.hear(1, true, effects));
    });
    assert_eq!(probe(0), Some(0), "soon, for it was used");
    assert_eq!(probe(1), Some(2), "when it is to close");
    assert_eq!(sent(1), []);
    probe(2);
    assert_eq!(sent(1), [Kind::Idle]);
    send();
    assert_eq!(sent(1), [Kind::None], "nothing follows IDLE");
    feed(&stream, |state, effects| {
        state.answer(&Frame::idle(), effects).unwrap();
    });
    assert!(opens());
    feed(&stream, |state, effects| {
        state.connecting(2);
        state.outbound_up(2, 1, effects);
    });
    assert_eq!(sent(2), [Kind::NodeCall]);
}

#[test]
fn a_peer_that_asks_and_reads_no_answers_fills_no_memory() {
    let stream = up();
    let call = |size| {
        let body = Bytes::from(vec![0; size]);
        stream.call(Frame::message(Kind::NodeCall, 0, 0, "A.B".into(), body))
    };
    while call(MESSAGE_BYTES).is_ok() {}
    while call(1).is_ok() {}
    let queued = stream.read(|state| state.queued_bytes());
    feed(&stream, |state, effects| {
        (1..=1000).for_each(|number| state.handle_ping(number, effects));
    });
    let more = stream.read(|state| state.queued_bytes()) - queued;
    assert!(more < 100, "the last that fits: {more}");
}
