//! Which pushes are printed, and those that `wait` may still take.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// All routes.
const ALL: &str = "*";

/// Pushes of one route that `wait` has yet to take, and routes with such pushes; more are not counted.
const UNSEEN: usize = 1024;

/// The routes of `on`, and what `wait` may take.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    wanted: BTreeSet<String>,
    /// By route, how many pushes were printed and not waited for; with `*` those of all routes.
    unseen: BTreeMap<String, usize>,
    closed: bool,
}

impl State {
    fn wants(&self, route: &str) -> bool {
        self.wanted.contains(route) || self.wanted.contains(ALL)
    }
}

impl Inbox {
    pub(super) fn want(&self, route: String) {
        self.state.lock().wanted.insert(route);
    }

    /// # Errors
    /// The route is not wanted.
    pub(super) fn forget(&self, route: &str) -> Result<(), String> {
        let mut state = self.state.lock();
        if !state.wanted.remove(route) {
            return Err(missing(route));
        }
        let State { wanted, unseen, .. } = &mut *state;
        unseen.retain(|route, _| wanted.contains(route) || wanted.contains(ALL));
        Ok(())
    }

    pub(super) fn wanted(&self) -> Vec<String> {
        self.state.lock().wanted.iter().cloned().collect()
    }

    /// Whether a push of this route is to be printed.
    pub(super) fn arrived(&self, route: &str) -> bool {
        self.state.lock().wants(route)
    }

    /// Counts a push for those who wait.
    pub(super) fn printed(&self, route: &str) {
        let mut state = self.state.lock();
        for route in [route, ALL] {
            let known = state.unseen.contains_key(route);
            if state.wants(route) && (known || state.unseen.len() < UNSEEN) {
                let unseen = state.unseen.entry(route.to_owned()).or_default();
                *unseen = (*unseen + 1).min(UNSEEN);
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// No more pushes come.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_waiters();
    }

    /// Waits for a push of this route that was not waited for before.
    ///
    /// # Errors
    /// The route is not wanted, or the connection is closed.
    pub(super) async fn wait(&self, route: &str) -> Result<(), String> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                let closed = state.closed;
                if !state.wants(route) {
                    return Err(missing(route));
                }
                match state.unseen.get_mut(route) {
                    Some(unseen @ 1..) => {
                        *unseen -= 1;
                        return Ok(());
                    }
                    _ if closed => return Err("the connection is closed".to_owned()),
                    _ => {}
                }
            }
            changed.await;
        }
    }
}

fn missing(route: &str) -> String {
    format!("the pushes of {route} are not printed: `on {route}` does that")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether there is a push that `wait` takes at once.
    fn taken(inbox: &Inbox, route: &str) -> bool {
        let mut wait = std::pin::pin!(inbox.wait(route));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        wait.as_mut().poll(&mut context) == std::task::Poll::Ready(Ok(()))
    }

    #[test]
    fn with_all_routes_each_can_be_waited_for() {
        let inbox = Inbox::default();
        inbox.want(ALL.to_owned());
        assert!(inbox.arrived("onSaid"));
        inbox.printed("onSaid");
        assert!(!taken(&inbox, "onJoined"));
        assert!(taken(&inbox, "onSaid") && !taken(&inbox, "onSaid"));
        assert!(taken(&inbox, ALL) && !taken(&inbox, ALL));

        inbox.want("onSaid".to_owned());
        inbox.printed("onSaid");
        inbox.printed("onJoined");
        inbox.forget(ALL).unwrap();
        assert!(!inbox.arrived("onJoined") && !taken(&inbox, "onJoined"));
        assert!(taken(&inbox, "onSaid"));
        assert!(inbox.forget(ALL).is_err());
    }

    #[test]
    fn pushes_of_many_routes_take_a_bounded_place() {
        let inbox = Inbox::default();
        inbox.want(ALL.to_owned());
        (0..2 * UNSEEN).for_each(|route| inbox.printed(&route.to_string()));
        assert_eq!(inbox.state.lock().unseen.len(), UNSEEN);
        assert!(taken(&inbox, ALL));
    }
}
