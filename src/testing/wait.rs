//! Waiting with a deadline, so that a test fails instead of hanging.

use std::{panic::Location, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for an event before it fails: 10 s, far more than any event takes, because
/// machines that run tests are often overloaded.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How often [`eventually`] looks.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Waits for a future for up to [`DEADLINE`]. `what` is named when it takes longer.
///
/// # Panics
/// The deadline passes. The message names the caller.
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        match timeout(DEADLINE, future).await {
            Ok(value) => value,
            Err(_) => panic!("{caller}: {what}: not within {DEADLINE:?}"),
        }
    }
}

/// Waits for up to [`DEADLINE`] until a condition holds, for state without a notification. The
/// condition is polled every 2 ms.
///
/// # Panics
/// The deadline passes. The message names the caller.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let end = Instant::now() + DEADLINE;
        while !condition() {
            assert!(
                Instant::now() < end,
                "{caller}: {what}: not within {DEADLINE:?}"
            );
            sleep(POLL_INTERVAL).await;
        }
    }
}
