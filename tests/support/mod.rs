//! What black-box tests share: the recorded server as a process of its own, apps in this one, and a
//! client that sends and sees exact bytes.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

mod client;
mod peer;
mod server;
pub(crate) mod websocket;

pub(crate) use self::{
    client::RawClient,
    peer::{Exit, Peer, program},
    server::Server,
    websocket::{Frame, opcode},
};

/// How long anything that is bound to happen may take before a test fails: much longer than it ever
/// does, for machines that are busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for what is bound to happen.
#[track_caller]
pub(crate) fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let Ok(value) = timeout(DEADLINE, future).await else {
            panic!("{caller}: {what}: not within {DEADLINE:?}")
        };
        value
    }
}

/// Waits for a condition nobody can be waited for to tell.
#[track_caller]
pub(crate) fn eventually(
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + DEADLINE;
        while !condition() {
            assert!(
                Instant::now() < end,
                "{caller}: {what}: not within {DEADLINE:?}"
            );
            sleep(Duration::from_millis(2)).await;
        }
    }
}
