//! Timers, on a clock that stands still unless the test moves it.
#![allow(clippy::unwrap_used, missing_docs)]

mod firing;
mod order;
mod stopping;
mod wall_clock;

use std::{sync::Arc, time::Duration};

use nano::scheduler::Pool;
use parking_lot::Mutex;
use tokio::{runtime::Handle, time::Instant};

/// Longest wait for an event in real time. Only a failing test takes that long.
const DEADLINE: Duration = Duration::from_secs(20);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Makes a pool whose turns run on the test's runtime, so every fire has an exact instant.
fn pool() -> Pool {
    Pool::new("test", 0, Handle::current()).unwrap()
}

/// Records the milliseconds since its creation at each fire.
#[derive(Clone)]
struct Fires {
    began: Instant,
    at: Arc<Mutex<Vec<u128>>>,
}

impl Fires {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            at: Arc::default(),
        }
    }

    fn note(&self) {
        self.at.lock().push(self.began.elapsed().as_millis());
    }

    fn callback(&self) -> impl FnMut() + Send + use<> {
        let fires = self.clone();
        move || fires.note()
    }

    fn at(&self) -> Vec<u128> {
        self.at.lock().clone()
    }

    /// The number of callbacks that are still alive.
    fn callbacks(&self) -> usize {
        Arc::strong_count(&self.at) - 1
    }
}
