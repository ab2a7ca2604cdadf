//! The channels of a gate, for the admin server.

use std::hash::Hash;

use super::gate::Gate;
use crate::channel::{ChannelPage, ChannelReport};

impl<M: Clone + Eq + Hash, T> Gate<M, T> {
    /// The channels with members here whose names come after `after`, the lowest `limit` of them,
    /// sorted.
    pub(super) fn list(&self, after: &str, limit: usize) -> ChannelPage {
        let all = self.channels.iter();
        let mut found: Vec<_> = all.filter(|(name, _)| &***name > after).collect();
        if found.len() > limit && limit > 0 {
            found.select_nth_unstable_by_key(limit - 1, |(name, _)| *name);
            found.truncate(limit);
        }
        found.sort_unstable_by_key(|(name, _)| *name);
        let channels = found.into_iter().map(|(name, joined)| ChannelReport {
            channel: name.clone(),
            members: joined.members.len(),
            owner: self.view.owner(name).cloned(),
            offset: joined.seen.offset,
        });
        ChannelPage {
            channels: channels.collect(),
            total: self.channels.len(),
        }
    }
}
