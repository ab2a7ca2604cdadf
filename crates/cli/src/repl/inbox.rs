//! Which pushes are printed, and those that `wait` may still take.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// All routes.
const ALL: &str = "*";

/// Pushes of one route that `wait` has yet to take; more are not counted.
const UNSEEN: usize = 1024;

/// The routes of `on`.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By route, how many pushes were printed and not waited for.
    wanted: BTreeMap<String, usize>,
    closed: bool,
}

impl Inbox {
    pub(super) fn want(&self, route: String) {
        self.state.lock().wanted.entry(route).or_default();
    }

    /// # Errors
    /// The route is not wanted.
    pub(super) fn forget(&self, route: &str) -> Result<(), String> {
        let removed = self.state.lock().wanted.remove(route);
        removed.map(drop).ok_or_else(|| missing(route))
    }

    pub(super) fn wanted(&self) -> Vec<String> {
        self.state.lock().wanted.keys().cloned().collect()
    }

    /// Whether a push of this route is to be printed.
    pub(super) fn arrived(&self, route: &str) -> bool {
        let state = self.state.lock();
        state.wanted.contains_key(route) || state.wanted.contains_key(ALL)
    }

    /// Counts a push for those who wait.
    pub(super) fn printed(&self, route: &str) {
        let mut state = self.state.lock();
        for route in [route, ALL] {
            if let Some(unseen) = state.wanted.get_mut(route) {
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
                match state.wanted.get_mut(route) {
                    None => return Err(missing(route)),
                    Some(0) if closed => return Err("the connection is closed".to_owned()),
                    Some(0) => {}
                    Some(unseen) => {
                        *unseen -= 1;
                        return Ok(());
                    }
                }
            }
            changed.await;
        }
    }
}

fn missing(route: &str) -> String {
    format!("the pushes of {route} are not printed: `on {route}` does that")
}
