//! What waits for a member of channels whose session moves between gates. No I/O.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::{
    channel::Position,
    cluster::channels::message::{Name, Publication},
};

/// What may wait for one session, by [`Publication::weight`]: more than its client is sent at once.
const MAX_WAITING: usize = 8 * 1024 * 1024;

/// A session that is about to move: at its gate, and at the next one, where it is no member yet.
#[derive(Debug)]
pub(in crate::cluster::channels) struct Hold<M> {
    /// The member; `None` at the next gate.
    pub(in crate::cluster::channels) member: Option<M>,
    pub(in crate::cluster::channels) channels: BTreeMap<Name, Waiting>,
    /// When a session is expected no longer.
    pub(in crate::cluster::channels) until: Option<Instant>,
    weight: usize,
    /// Whether more was published than may wait. Then nothing waits any more.
    pub(in crate::cluster::channels) is_full: bool,
}

/// The publications of one channel that wait, all behind a position, without a gap.
#[derive(Debug)]
pub(in crate::cluster::channels) struct Waiting {
    pub(in crate::cluster::channels) since: Position,
    pub(in crate::cluster::channels) publications: Vec<Publication>,
}

impl<M> Hold<M> {
    pub(in crate::cluster::channels) fn new(member: Option<M>, until: Option<Instant>) -> Self {
        Self {
            member,
            channels: BTreeMap::new(),
            until,
            weight: 0,
            is_full: false,
        }
    }

    /// Lets what is published behind a position wait, unless it does already.
    pub(in crate::cluster::channels) fn add(&mut self, channel: &Name, since: Position) {
        let waiting = || Waiting {
            since,
            publications: Vec::new(),
        };
        self.channels.entry(channel.clone()).or_insert_with(waiting);
    }

    /// Whether publications of the channel wait, or may wait in addition.
    pub(in crate::cluster::channels) fn has_room(&self, channel: &str, most: usize) -> bool {
        self.channels.len() < most || self.channels.contains_key(channel)
    }

    /// Keeps a publication.
    pub(in crate::cluster::channels) fn deliver(
        &mut self,
        channel: &str,
        publication: &Publication,
    ) {
        let Some(waiting) = self.channels.get_mut(channel) else {
            return;
        };
        if self.is_full || publication.position <= waiting.since {
            return;
        }
        self.weight += publication.weight();
        if self.weight > MAX_WAITING {
            self.is_full = true;
            for waiting in self.channels.values_mut() {
                waiting.publications = Vec::new();
            }
            return;
        }
        waiting.publications.push(publication.clone());
    }
}
