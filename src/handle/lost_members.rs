//! Members that were evicted and have not returned.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::member::Member;

/// How long an evicted member is kept.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// How many are kept, the latest. All of them fit into one summary of the admin server.
const CAPACITY: usize = 16;

/// Characters of a label that are kept.
const LABEL: usize = 64;

/// The latest members that this node evicted as the master. The lock guards the list alone.
#[derive(Debug, Default)]
pub(crate) struct LostMembers(Mutex<VecDeque<LostMember>>);

/// A member whose heartbeats stopped.
#[derive(Clone, Debug)]
pub(crate) struct LostMember {
    pub(crate) address: String,
    pub(crate) label: String,
    /// When it was evicted, for operators.
    pub(crate) evicted: SystemTime,
    since: Instant,
}

impl LostMembers {
    /// Notes an eviction. The oldest one makes room for it.
    pub(crate) fn evicted(&self, member: &Member) {
        let mut list = self.0.lock();
        list.retain(|lost| lost.address != member.address());
        if list.len() == CAPACITY {
            list.pop_front();
        }
        list.push_back(LostMember {
            address: member.address().to_owned(),
            label: member.label().chars().take(LABEL).collect(),
            evicted: SystemTime::now(),
            since: Instant::now(),
        });
    }

    /// Forgets the member at an address: one is there again.
    pub(super) fn returned(&self, address: &str) {
        self.0.lock().retain(|lost| lost.address != address);
    }

    /// Returns those of the last hour, the latest last.
    pub(crate) fn list(&self) -> Vec<LostMember> {
        let mut list = self.0.lock();
        list.retain(|lost| lost.since.elapsed() < KEPT);
        list.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::member::Info;

    fn addresses(lost: &LostMembers) -> Vec<String> {
        lost.list().into_iter().map(|lost| lost.address).collect()
    }

    fn member(port: usize) -> Member {
        Member::new(Info {
            address: format!("10.0.0.1:{port}"),
            ..Info::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn evicted_members_are_kept_until_they_return_or_for_an_hour() {
        let lost = LostMembers::default();
        lost.evicted(&member(1));
        advance(KEPT / 2).await;
        lost.evicted(&member(2));
        lost.evicted(&member(3));
        lost.returned("10.0.0.1:2");
        assert_eq!(addresses(&lost), ["10.0.0.1:1", "10.0.0.1:3"]);
        advance(KEPT / 2).await;
        assert_eq!(addresses(&lost), ["10.0.0.1:3"]);
    }

    #[tokio::test]
    async fn the_latest_evictions_are_kept_each_address_once() {
        let lost = LostMembers::default();
        for port in 0..=CAPACITY {
            lost.evicted(&member(port));
        }
        lost.evicted(&member(1));
        let kept = addresses(&lost);
        assert_eq!(kept.len(), CAPACITY);
        assert_eq!(kept[0], "10.0.0.1:2");
        assert_eq!(kept[CAPACITY - 1], "10.0.0.1:1");
    }
}
