//! One stream to another node: what waits for it, and the sessions it is about.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::{
    BATCH_BYTES, IDLE, NODE_ACCOUNT,
    backlog::{Account, Backlog},
    frames::check_size,
    pairing::Pairing,
    proto::{Batch, Frame, Kind},
};
use crate::{
    error::{Error, Result, code},
    session::{CloseReason, Session},
};

mod sessions;

/// The sending side. Any thread queues; the stream's task writes. It outlives its streams: what is
/// queued while there is none goes with the next.
pub(in crate::cluster) struct Shard {
    state: Mutex<State>,
    /// Whether the last stream broke and no other is up; apart from the state, for it is read for
    /// every choice of a member.
    down: AtomicBool,
    /// On whose account frames to many sessions are, and those about none.
    pub(in crate::cluster) broadcasts: Arc<Account>,
    pub(in crate::cluster) node: Arc<Account>,
}

#[derive(Default)]
struct State {
    queue: Backlog,
    phase: Phase,
    /// How many looks found nothing sent.
    idle: u32,
    /// Which stream may take from the queue.
    stream: u64,
    pairings: HashMap<i64, Pairing>,
    /// How many there have been.
    opened: u64,
    writer: Option<Waker>,
    /// Whether the stream ends when the queue is empty.
    finishing: bool,
    /// Whether the member, which stops, has been told that nothing follows.
    drained: bool,
    /// Whether readers of sessions wait until there is room in the queue.
    held: bool,
    /// Readers of sessions that have just ended here, to be woken.
    parted: Vec<Waker>,
}

#[derive(Default, PartialEq)]
enum Phase {
    #[default]
    Connecting,
    Up,
    Down(Instant),
    Closed,
}

/// Requests that nobody answers any more.
pub(in crate::cluster) type Lost = Vec<(Session, VecDeque<u64>)>;

impl Shard {
    pub(in crate::cluster) fn new() -> Arc<Self> {
        let node = || Account::new(NODE_ACCOUNT);
        Arc::new(Self {
            state: Mutex::default(),
            down: AtomicBool::new(false),
            broadcasts: node(),
            node: node(),
        })
    }

    pub(in crate::cluster) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(in crate::cluster) fn is_up(&self) -> bool {
        self.state.lock().phase == Phase::Up
    }

    /// How many sessions of this gate the member serves.
    pub(in crate::cluster) fn sessions(&self) -> usize {
        self.state.lock().pairings.len()
    }

    /// Queues a frame that is bounded elsewhere: by the number of sessions or of requests.
    pub(in crate::cluster) fn send(&self, frame: Frame) {
        let mut state = self.state.lock();
        state.push(frame);
        wake(state);
    }

    /// Queues a frame unless too much of the same account waits already, or too much of all.
    ///
    /// # Errors
    /// [`code::TOO_MANY`], [`code::TOO_LARGE`], or [`code::CLOSED`] when the node is gone.
    pub(in crate::cluster) fn try_send(&self, frame: Frame, account: &Arc<Account>) -> Result {
        check_size(frame.body.len())?;
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return Err(Error::new(code::CLOSED, "the other node is gone"));
        }
        if !state.queue.takes(account, frame.weight()) {
            return Err(Error::new(
                code::TOO_MANY,
                "the other node does not take more",
            ));
        }
        state.queue.charge(frame, account);
        wake(state);
        Ok(())
    }

    /// A stream is about to come up; it gets nothing before it [is](Shard::up).
    pub(super) fn begin(&self, stream: u64) {
        self.state.lock().stream = stream;
    }

    /// A new stream is up: before all that waits goes every session that the last stream was about.
    pub(super) fn up(&self, stream: u64) {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed || state.stream != stream {
            return;
        }
        let unsent: HashSet<_> = state
            .queue
            .iter()
            .filter(|frame| frame.kind() == Kind::SessionOpen)
            .map(|frame| frame.session)
            .collect();
        let known = state
            .pairings
            .values()
            .filter(|pairing| !unsent.contains(&pairing.session.id()));
        let again: Vec<_> = known
            .map(|pairing| {
                Frame::session_open(&pairing.session, pairing.number, pairing.binds, true)
            })
            .chain([Frame::resync_done()])
            .collect();
        for frame in again.into_iter().rev() {
            state.queue.push_front(frame);
        }
        state.phase = Phase::Up;
        self.down.store(false, Ordering::Relaxed);
        wake(state);
    }

    /// The stream is gone, or did not come up. What was under way is lost, and what waits for an
    /// answer that will not come.
    pub(in crate::cluster) fn broken(&self) -> Lost {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return Lost::new();
        }
        // Who waited when a stream broke has been told. Answers that came since are still waited
        // for, whatever attempts fail meanwhile.
        let was_up = state.phase == Phase::Up;
        if !matches!(state.phase, Phase::Down(_)) {
            state.phase = Phase::Down(Instant::now());
        }
        self.down.store(true, Ordering::Relaxed);
        state.stream = 0;
        state
            .queue
            .retain(|frame| !(frame.is_question() || was_up && frame.is_answer()));
        let lost = state.lose();
        wake_all(state);
        lost
    }

    /// The member's own stream is gone: its answers are lost.
    pub(in crate::cluster) fn answers_lost(&self) -> Lost {
        let mut state = self.state.lock();
        let lost = state.lose();
        wake_all(state);
        lost
    }

    /// Says that this node is alive, if it has said nothing else for a while.
    pub(in crate::cluster) fn look(&self) {
        let mut state = self.state.lock();
        state.idle += 1;
        if state.phase == Phase::Up && state.idle >= IDLE && state.queue.is_empty() {
            state.push(Frame::keepalive());
            wake(state);
        }
    }

    /// Since when there has been no stream.
    pub(in crate::cluster) fn down_since(&self) -> Option<Instant> {
        match self.state.lock().phase {
            Phase::Down(since) => Some(since),
            _ => None,
        }
    }

    /// Ends all pairings, and tells the member when it can be told again.
    pub(in crate::cluster) fn part(&self) -> Lost {
        let mut state = self.state.lock();
        let parted = state.part();
        let reason = CloseReason::Broken("the nodes were cut off from each other".to_owned());
        for (session, _) in &parted {
            state.push(Frame::session_closed(session.id(), &reason));
        }
        wake_all(state);
        parted
    }

    /// Ends it: nothing is sent any more.
    pub(in crate::cluster) fn close(&self) -> Lost {
        let mut state = self.state.lock();
        let parted = state.part();
        state.phase = Phase::Closed;
        self.down.store(true, Ordering::Relaxed);
        state.queue.clear();
        wake_all(state);
        parted
    }

    /// Tells a member that stops that no more messages follow.
    pub(in crate::cluster) fn drain(&self) {
        let mut state = self.state.lock();
        state.drained = true;
        state.push(Frame::drained());
        wake(state);
    }

    /// Ends the stream in order, behind what is queued.
    pub(in crate::cluster) fn finish(&self) {
        let mut state = self.state.lock();
        state.finishing = true;
        wake_all(state);
    }

    /// The next batch for a stream; `None` when it is no longer the one.
    pub(super) fn poll_batch(&self, stream: u64, cx: &Context<'_>) -> Poll<Option<Batch>> {
        let mut state = self.state.lock();
        if state.stream != stream || state.phase == Phase::Closed {
            return Poll::Ready(None);
        }
        if state.queue.is_empty() && state.finishing && state.phase == Phase::Up {
            return Poll::Ready(None);
        }
        if state.queue.is_empty() || state.phase != Phase::Up {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.idle = 0;
        let mut frames = Vec::with_capacity(state.queue.len().min(256));
        let (mut bytes, mut readers, before) = (0, Vec::new(), state.queue.bytes());
        let State {
            queue,
            pairings,
            held,
            ..
        } = &mut *state;
        while bytes < BATCH_BYTES
            && let Some((frame, account)) = queue.pop()
        {
            bytes += frame.weight();
            if *held && account.is_some_and(|account| account.is_modest()) {
                readers.extend(
                    pairings
                        .get_mut(&frame.session)
                        .and_then(|pairing| pairing.reader.take()),
                );
            }
            frames.push(frame);
        }
        if *held && queue.has_shrunk(before) {
            *held = !queue.is_short();
            readers.extend(state.readers());
        }
        drop(state);
        readers.into_iter().for_each(Waker::wake);
        Poll::Ready(Some(Batch { frames }))
    }
}

impl State {
    fn push(&mut self, frame: Frame) {
        if self.phase != Phase::Closed {
            self.queue.push(frame);
        }
    }

    /// Everybody who waits for room.
    fn readers(&mut self) -> Vec<Waker> {
        let waiting = self
            .pairings
            .values_mut()
            .filter_map(|pairing| pairing.reader.take());
        self.parted.drain(..).chain(waiting).collect()
    }

    fn part(&mut self) -> Lost {
        let Self {
            pairings,
            parted: readers,
            ..
        } = self;
        let parted = pairings.drain().map(|(_, mut pairing)| {
            readers.extend(pairing.reader.take());
            let requests = pairing.lose();
            (pairing.session, requests)
        });
        parted.collect()
    }

    fn lose(&mut self) -> Lost {
        let lost = self.pairings.values_mut().filter_map(|pairing| {
            let requests = pairing.lose();
            (!requests.is_empty()).then(|| (pairing.session.clone(), requests))
        });
        lost.collect()
    }
}

/// Wakes the writer, after unlocking.
fn wake(mut state: MutexGuard<'_, State>) {
    let writer = state.writer.take();
    drop(state);
    if let Some(writer) = writer {
        writer.wake();
    }
}

/// Wakes the writer and every reader.
fn wake_all(mut state: MutexGuard<'_, State>) {
    let readers = state.readers();
    let writer = state.writer.take();
    drop(state);
    writer.into_iter().chain(readers).for_each(Waker::wake);
}
