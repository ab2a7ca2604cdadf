use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;

use super::{
    CREDIT, SHARE, WINDOW,
    proto::{Frame, Kind},
    shard::Shard,
};
use crate::{dispatch::ForwardError, message::Message, mock, session::Session};

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

fn up() -> Arc<Shard> {
    let shard = Shard::new();
    shard.begin(1);
    shard.up(1);
    shard
}

/// Sends a message; the reader if it has to wait.
fn send(shard: &Arc<Shard>, session: &Session, body: usize) -> Option<Reader> {
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
    match shard.message(session, message, frame) {
        Ok(()) => None,
        Err(ForwardError::Full(_, room)) => Some(Reader {
            room,
            woken: Arc::default(),
        }),
        Err(ForwardError::Error(error)) => panic!("{error}"),
    }
}

/// Sends until there is no room, and waits for some.
fn fill(shard: &Arc<Shard>, session: &Session, body: usize) -> (usize, Reader) {
    for sent in 0.. {
        if let Some(mut reader) = send(shard, session, body) {
            assert!(!reader.goes_on());
            return (sent, reader);
        }
    }
    unreachable!()
}

/// What goes out next, if anything does.
fn batch(shard: &Shard) -> Vec<Frame> {
    match shard.poll_batch(1, &Context::from_waker(Waker::noop())) {
        Poll::Ready(batch) => batch.unwrap().frames,
        Poll::Pending => Vec::new(),
    }
}

#[test]
fn a_session_that_fills_the_queue_waits_until_half_of_it_is_sent_and_others_do_not() {
    let (shard, (greedy, _), (modest, _)) = (up(), mock::session(), mock::session());
    let (sent, mut reader) = fill(&shard, &greedy, SHARE);
    assert!((60..70).contains(&sent), "about 1 MiB: {sent}");
    assert!(send(&shard, &modest, 100).is_none());

    let mut gone = 0;
    while reader.woken() == 0 {
        let frames = batch(&shard);
        assert!(!frames.is_empty(), "woken before all is sent");
        gone += frames.len();
    }
    assert!((sent / 3..sent * 2 / 3).contains(&gone), "{gone} of {sent}");
    assert!(reader.goes_on());
}

#[test]
fn a_session_goes_on_when_its_own_messages_are_sent_however_many_others_wait() {
    let (shard, (first, _), (second, _)) = (up(), mock::session(), mock::session());
    // Both would have to wait until little is left, and the first has less of it.
    assert!(send(&shard, &first, 2 * SHARE).is_none());
    let (_, _held) = fill(&shard, &second, SHARE);
    let mut reader = send(&shard, &first, SHARE).unwrap();
    assert!(!reader.goes_on());
    batch(&shard);
    assert_eq!(reader.woken(), 1);
    assert!(reader.goes_on());
}

#[test]
fn a_session_that_has_used_up_its_window_waits_for_credit() {
    let (shard, (session, _)) = (up(), mock::session());
    let (sent, mut reader) = fill(&shard, &session, 0);
    assert_eq!(sent, WINDOW as usize);
    while !batch(&shard).is_empty() {}
    assert_eq!(reader.woken(), 0, "sent, but not handled");
    shard.credit(session.id(), CREDIT);
    assert_eq!(reader.woken(), 1);
    assert!(reader.goes_on());
}

#[test]
fn readers_are_woken_when_their_session_or_the_stream_ends() {
    let ends: [fn(&Shard, i64); 4] = [
        |shard, id| drop(shard.gone(id, 1)),
        |shard, _| drop(shard.broken()),
        |shard, _| drop(shard.part()),
        |shard, _| drop(shard.close()),
    ];
    for end in ends {
        for body in [0, SHARE] {
            let (shard, (session, _)) = (up(), mock::session());
            let (_, reader) = fill(&shard, &session, body);
            end(&shard, session.id());
            assert_eq!(reader.woken(), 1);
        }
    }
}
