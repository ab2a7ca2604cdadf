//! The announcements that one member has yet to be sent. No I/O.

use std::collections::VecDeque;

use crate::member::Member;

/// Announcements that may wait for one member. A member that takes none for so long is evicted
/// soon, or receives the whole table with a heartbeat.
const MAX_WAITING: usize = 16 * 1024;

/// What the master announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Announcement {
    Join(Member),
    Leave {
        address: String,
        incarnation: u64,
        /// Whether its heartbeats stopped.
        evicted: bool,
    },
    /// The master itself leads from now on, in place of another one.
    Lead(Member),
}

impl Announcement {
    fn address(&self) -> &str {
        match self {
            Self::Join(member) | Self::Lead(member) => member.address(),
            Self::Leave { address, .. } => address,
        }
    }

    fn is_join(&self) -> bool {
        matches!(self, Self::Join(_) | Self::Lead(_))
    }
}

/// What the master may assume about a member's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerView {
    /// A member of this crate: applying an announcement twice changes nothing.
    Idempotent,
    /// A basic member whose table consists of what this queue delivered. It appends every join and
    /// removes one entry for every leave, so each announcement must be applied once.
    Exact,
    /// A basic member that may know more than this queue delivered: every join is preceded by a
    /// leave, so that it is not appended twice.
    Unknown,
}

/// The announcements for one member, in order.
///
/// An announcement that a later one makes pointless is dropped, so the queue holds at most two for
/// each address.
#[derive(Debug, Clone)]
pub(crate) struct UpdateQueue {
    view: PeerView,
    waiting: VecDeque<Announcement>,
    in_flight: Option<Announcement>,
}

impl UpdateQueue {
    fn new(view: PeerView) -> Self {
        Self {
            view,
            waiting: VecDeque::new(),
            in_flight: None,
        }
    }

    /// Creates the queue for a member at an address whose former member had the queue `old`.
    ///
    /// A basic member inherits what waits in `old`: its registration carries no incarnation,
    /// so it may be an old one that arrives late and stands for the member that is there already.
    pub(crate) fn inherit(old: Option<Self>, view: PeerView) -> Self {
        let mut queue = Self::new(view);
        let Some(mut old) = old.filter(|_| view != PeerView::Idempotent) else {
            return queue;
        };
        old.failed();
        for announcement in old.waiting {
            queue.waiting.extend(retraction(&announcement));
            queue.waiting.push_back(announcement);
        }
        queue
    }

    /// Queues an announcement.
    ///
    /// Returns `false` on overflow: everything that waited has been dropped.
    #[must_use]
    pub(crate) fn push(&mut self, announcement: Announcement) -> bool {
        let replaced = |old: &Announcement| {
            old.address() == announcement.address() && (old.is_join() || !announcement.is_join())
        };
        self.waiting.retain(|old| !replaced(old));
        if self.view == PeerView::Unknown {
            self.waiting.extend(retraction(&announcement));
        }
        self.waiting.push_back(announcement);
        if self.waiting.len() > MAX_WAITING {
            self.waiting.clear();
            return false;
        }
        true
    }

    /// Whether the member has been sent everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_none()
    }

    /// Takes the announcement to deliver next. [`delivered`](Self::delivered) or
    /// [`failed`](Self::failed) must follow.
    pub(crate) fn take(&mut self) -> Option<Announcement> {
        self.in_flight = self.waiting.pop_front();
        self.in_flight.clone()
    }

    pub(crate) fn delivered(&mut self) {
        self.in_flight = None;
    }

    /// Queues the announcement in flight again, ahead of the others: the call failed, so the
    /// member may or may not have applied it.
    pub(crate) fn failed(&mut self) {
        let Some(announcement) = self.in_flight.take() else {
            return;
        };
        let superseded = self
            .waiting
            .iter()
            .any(|later| later.address() == announcement.address() && !later.is_join());
        if superseded {
            return;
        }
        let retraction = if self.view == PeerView::Idempotent {
            None
        } else {
            retraction(&announcement)
        };
        self.waiting.push_front(announcement);
        if let Some(retraction) = retraction {
            self.waiting.push_front(retraction);
        }
    }
}

/// Returns the leave that makes sure that a join is not applied twice.
fn retraction(announcement: &Announcement) -> Option<Announcement> {
    match announcement {
        Announcement::Join(member) => Some(Announcement::Leave {
            address: member.address().to_owned(),
            incarnation: member.incarnation(),
            evicted: false,
        }),
        Announcement::Leave { .. } | Announcement::Lead(_) => None,
    }
}
