//! Bounds what searches for the gates of sessions cost. Each asks all members, and any client can cause
//! one, with an invented token.

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// The most searches at a time.
const MAX_RUNNING: usize = 64;

/// The most questions to members in a second, over time and at once.
const PER_SECOND: f64 = 5_000.0;
const BURST: f64 = 10_000.0;

/// The searches of one gate.
pub(super) struct Searches {
    running: Semaphore,
    budget: Mutex<Budget>,
}

impl Searches {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            running: Semaphore::new(MAX_RUNNING),
            budget: Mutex::new(Budget {
                left: BURST,
                filled: now,
            }),
        }
    }

    /// Begins a search that asks so many members. `None` if there are too many: the client may try
    /// again.
    pub(super) fn begin(&self, members: usize, now: Instant) -> Option<SemaphorePermit<'_>> {
        let permit = self.running.try_acquire().ok()?;
        self.budget.lock().take(members, now).then_some(permit)
    }
}

/// How many questions are left. They come back over time.
struct Budget {
    left: f64,
    filled: Instant,
}

impl Budget {
    /// Takes so many questions if they are left. More than there can be at once count as these.
    fn take(&mut self, questions: usize, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * PER_SECOND;
        (self.left, self.filled) = ((self.left + gained).min(BURST), now);
        let wanted = (questions as f64).min(BURST);
        let enough = wanted <= self.left;
        if enough {
            self.left -= wanted;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn members_are_asked_so_often_in_a_second_however_many_they_are() {
        for members in [1, 20, 1_000] {
            let start = Instant::now();
            let searches = Searches::new(start);
            let mut asked = 0;
            for millis in 0..4_000 {
                let now = start + Duration::from_millis(millis);
                // A thousand clients in each millisecond.
                while searches.begin(members, now).is_some() {
                    asked += members;
                }
            }
            let most = 10_000 + 4 * 5_000;
            assert!((most - 1_000..=most).contains(&asked), "{members}: {asked}");
        }
        let start = Instant::now();
        let searches = Searches::new(start);
        assert!(searches.begin(50_000, start).is_some(), "once");
        assert!(searches.begin(1, start).is_none());
        assert!(
            searches
                .begin(1, start + Duration::from_millis(1))
                .is_some()
        );
    }

    #[test]
    fn so_many_searches_go_on_at_a_time() {
        let now = Instant::now();
        let searches = Searches::new(now);
        let mut running: Vec<_> = (0..64).map(|_| searches.begin(1, now).unwrap()).collect();
        assert!(searches.begin(1, now).is_none());
        running.pop();
        assert!(searches.begin(1, now).is_some());
    }
}
