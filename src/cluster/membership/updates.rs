//! What one member has yet to be told. No I/O.

use std::collections::VecDeque;

use crate::member::Member;

/// A member that takes nothing for so long that this many wait is given up on: it is evicted soon,
/// or catches up with a heartbeat.
const LIMIT: usize = 16 * 1024;

/// That somebody joined or left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Announcement {
    New(Member),
    Del { address: String, incarnation: u64 },
}

impl Announcement {
    fn address(&self) -> &str {
        match self {
            Self::New(member) => member.address(),
            Self::Del { address, .. } => address,
        }
    }

    fn is_new(&self) -> bool {
        matches!(self, Self::New(_))
    }
}

/// What the master knows of what a member knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// A node of this crate: it understands news it had already.
    Any,
    /// A node of Go nano that has been told everything it knows in this queue. It appends whatever
    /// it is told is new, and removes one entry when it is told that somebody left, so it must be
    /// told once.
    Told,
    /// A node of Go nano that knows more than that: what may be new to it, or not, is first
    /// removed.
    Unknown,
}

/// The news for one member, in order. News that later ones make pointless are dropped, so it holds
/// at most two for each address.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    knowledge: Knowledge,
    waiting: VecDeque<Announcement>,
    under_way: Option<Announcement>,
}

impl Queue {
    fn new(knowledge: Knowledge) -> Self {
        Self {
            knowledge,
            waiting: VecDeque::new(),
            under_way: None,
        }
    }

    /// The queue for somebody who registers at an address where somebody else was. What that one
    /// had yet to be told is told to this one: a registration of Go nano may be an old one that
    /// comes late, and then it is for the node that is there.
    pub(crate) fn succeeding(old: Option<Self>, knowledge: Knowledge) -> Self {
        let mut queue = Self::new(knowledge);
        let Some(mut old) = old.filter(|_| knowledge != Knowledge::Any) else {
            return queue;
        };
        old.failed();
        for news in old.waiting {
            queue.waiting.extend(undo(&news));
            queue.waiting.push_back(news);
        }
        queue
    }

    /// Adds news. `false` if that was too much, and all that waited is dropped.
    #[must_use]
    pub(crate) fn push(&mut self, news: Announcement) -> bool {
        let replaced = |old: &Announcement| {
            old.address() == news.address() && (old.is_new() || !news.is_new())
        };
        self.waiting.retain(|old| !replaced(old));
        if self.knowledge == Knowledge::Unknown {
            self.waiting.extend(undo(&news));
        }
        self.waiting.push_back(news);
        if self.waiting.len() > LIMIT {
            self.waiting.clear();
            return false;
        }
        true
    }

    /// The news to deliver next; [`delivered`](Queue::delivered) or [`failed`](Queue::failed) must
    /// follow.
    pub(crate) fn take(&mut self) -> Option<Announcement> {
        self.under_way = self.waiting.pop_front();
        self.under_way.clone()
    }

    pub(crate) fn delivered(&mut self) {
        self.under_way = None;
    }

    /// It may have arrived, or may not: it is to be repeated, unless later news make it pointless.
    pub(crate) fn failed(&mut self) {
        let Some(news) = self.under_way.take() else {
            return;
        };
        let overtaken = self
            .waiting
            .iter()
            .any(|later| later.address() == news.address() && !later.is_new());
        if overtaken {
            return;
        }
        let undo = if self.knowledge == Knowledge::Any {
            None
        } else {
            undo(&news)
        };
        self.waiting.push_front(news);
        if let Some(undo) = undo {
            self.waiting.push_front(undo);
        }
    }
}

/// What makes sure that news are news.
fn undo(news: &Announcement) -> Option<Announcement> {
    match news {
        Announcement::New(member) => Some(Announcement::Del {
            address: member.address().to_owned(),
            incarnation: member.incarnation(),
        }),
        Announcement::Del { .. } => None,
    }
}
