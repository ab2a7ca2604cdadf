//! The members that served sessions which have ended.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long they are known: longer than a login waits for the close callbacks of a session.
const KEPT: Duration = Duration::from_secs(20);

/// The addresses of the members, by session. Sessions that no other member served are not listed.
///
/// A leaf lock.
#[derive(Debug, Default)]
pub(crate) struct LastServers(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    by_session: HashMap<i64, Vec<String>>,
    /// When each is forgotten, in order.
    ends: VecDeque<(Instant, i64)>,
}

impl LastServers {
    /// Lists a session that ends. The members are those that run its close callbacks.
    pub(crate) fn add(&self, session: i64, members: Vec<String>, now: Instant) {
        let mut listed = self.0.lock();
        listed.forget(now);
        if !members.is_empty() {
            listed.by_session.insert(session, members);
            listed.ends.push_back((now + KEPT, session));
        }
    }

    /// Returns the members that served a session which has ended.
    pub(crate) fn of(&self, session: i64, now: Instant) -> Vec<String> {
        let mut listed = self.0.lock();
        listed.forget(now);
        let members = listed.by_session.get(&session);
        members.cloned().unwrap_or_default()
    }
}

impl Listed {
    fn forget(&mut self, now: Instant) {
        while let Some(&(end, session)) = self.ends.front()
            && end <= now
        {
            self.ends.pop_front();
            self.by_session.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_known_for_a_while() {
        let (servers, begun) = (LastServers::default(), Instant::now());
        servers.add(1, vec!["a:1".into(), "b:1".into()], begun);
        servers.add(2, Vec::new(), begun);
        assert_eq!(servers.of(1, begun), ["a:1", "b:1"]);
        assert!(servers.of(2, begun).is_empty());
        assert_eq!(servers.of(1, begun + KEPT / 2).len(), 2);
        assert!(servers.of(1, begun + KEPT).is_empty());
        assert!(servers.0.lock().by_session.is_empty());
        assert!(servers.0.lock().ends.is_empty());
    }
}
