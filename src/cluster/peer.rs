//! Another node of this crate: the ways to it and from it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    ended::Ended,
    link::{SHARDS, SILENT, proto::Frame, shard::Shard},
    remote::Served,
};
use crate::error::{Error, Result, code};

/// One run of another node. It appears with its join or its first link, whichever is first, and
/// goes when it has left and its links are gone.
pub(super) struct Peer {
    pub(super) address: Arc<str>,
    pub(super) incarnation: u64,
    /// A later run that was found at its address, 0 for none.
    successor: AtomicU64,
    /// What is sent to it.
    pub(super) shards: [Arc<Shard>; SHARDS],
    /// What comes from it.
    pub(super) inlets: [Inlet; SHARDS],
    /// Whether it is in the member table.
    joined: AtomicBool,
    /// Whether it said that it is about to stop.
    leaving: AtomicBool,
    finishing: AtomicBool,
    /// On how many streams it said that nothing more comes.
    drained: AtomicUsize,
    closed: watch::Sender<bool>,
}

/// One of its streams, and the sessions of its clients that use it.
#[derive(Default)]
pub(super) struct Inlet {
    /// Held while frames are handled, so that a new stream follows its predecessor.
    pub(super) turn: Mutex<()>,
    pub(super) state: Mutex<InletState>,
}

#[derive(Default)]
pub(super) struct InletState {
    /// The number of the latest stream.
    pub(super) stream: u64,
    /// Since when there has been none.
    pub(super) down_since: Option<Instant>,
    pub(super) answers: Option<Answers>,
    /// How many looks found that nothing had come.
    quiet: u32,
    /// The largest number of a session that the peer has opened.
    pub(super) opened: u64,
    pub(super) sessions: HashMap<i64, Served>,
    /// Those that have ended, while there are nodes of Go nano that may speak of them.
    pub(super) ended: Ended,
}

/// The way back on a stream. Dropping it ends the stream.
pub(super) struct Answers {
    pub(super) frames: mpsc::UnboundedSender<Frame>,
    /// Dropped with it, which the one who reads the stream sees.
    pub(super) _reading: oneshot::Sender<()>,
}

impl Peer {
    pub(super) fn new(address: &str, incarnation: u64) -> Arc<Self> {
        Arc::new(Self {
            address: address.into(),
            incarnation,
            successor: AtomicU64::new(0),
            shards: std::array::from_fn(|_| Shard::new()),
            inlets: Default::default(),
            joined: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            finishing: AtomicBool::new(false),
            drained: AtomicUsize::new(0),
            closed: watch::Sender::new(false),
        })
    }

    /// Whether this run was found at its address.
    ///
    /// # Errors
    /// It is another one: what is for this one is not for that.
    pub(super) fn check_run(&self, found: Option<u64>) -> Result {
        if found == Some(self.incarnation) {
            return Ok(());
        }
        self.successor
            .fetch_max(found.unwrap_or_default(), Ordering::AcqRel);
        Err(Error::new(
            code::UNAVAILABLE,
            "another run of this node is at its address",
        ))
    }

    /// Whether that run has been found where this one was.
    pub(super) fn is_succeeded_by(&self, incarnation: u64) -> bool {
        incarnation > self.incarnation && self.successor.load(Ordering::Acquire) == incarnation
    }

    pub(super) fn join(&self) {
        self.joined.store(true, Ordering::Release);
    }

    pub(super) fn leave(&self) {
        self.joined.store(false, Ordering::Release);
    }

    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(super) fn set_leaving(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Nothing will be sent to it behind what is queued.
    pub(super) fn finish(&self) {
        self.finishing.store(true, Ordering::Release);
        self.shards.iter().for_each(|shard| shard.finish());
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    /// Whether new work may go there.
    pub(super) fn is_available(&self) -> bool {
        self.has_joined() && !self.is_leaving() && !self.is_broken()
    }

    /// Whether a way to it or from it is broken.
    pub(super) fn is_broken(&self) -> bool {
        self.shards.iter().any(|shard| shard.is_down())
            || self
                .inlets
                .iter()
                .any(|inlet| inlet.state.lock().down_since.is_some())
    }

    /// Whether nothing has come from it for so long that others are to be preferred.
    pub(super) fn is_silent(&self) -> bool {
        self.inlets
            .iter()
            .any(|inlet| inlet.state.lock().quiet >= SILENT)
    }

    /// Whether any link is up, in either direction.
    pub(super) fn is_linked(&self) -> bool {
        self.shards.iter().any(|shard| shard.is_up())
            || self
                .inlets
                .iter()
                .any(|inlet| inlet.state.lock().answers.is_some())
    }

    pub(super) fn drained(&self) {
        self.drained.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether all that it sent before it knew that this node stops has arrived, or can never
    /// arrive.
    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire) >= SHARDS || !self.is_linked()
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(super) async fn closed(&self) {
        // The sender is part of this, so the wait cannot fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

impl InletState {
    /// A new stream is up.
    pub(super) fn begin(&mut self, stream: u64) {
        (self.stream, self.down_since, self.quiet) = (stream, None, 0);
    }
}

impl Inlet {
    /// Answers on the stream that is up, if one is.
    pub(super) fn answer(&self, frame: Frame) {
        if let Some(answers) = &self.state.lock().answers {
            // A stream that has just ended takes nothing more.
            let _ = answers.frames.send(frame);
        }
    }

    /// Says that a session of the peer's is not there, as far as its sessions are known here.
    pub(super) fn gone(&self, session: i64) {
        let opened = self.state.lock().opened;
        self.answer(Frame::session_unknown(session, opened));
    }

    /// Something has come on this stream. False if it is no longer the one.
    pub(super) fn hear(&self, stream: u64) -> bool {
        let mut state = self.state.lock();
        let current = state.stream == stream;
        if current {
            state.quiet = 0;
        }
        current
    }

    /// Counts that nothing has come since the last look, or since the member joined; something that
    /// comes begins anew. The stream, if one is up, and the count.
    pub(super) fn look(&self) -> Option<(u64, u32)> {
        let mut state = self.state.lock();
        state.quiet = state.quiet.saturating_add(1);
        state.answers.as_ref()?;
        Some((state.stream, state.quiet))
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.address)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
