//! The client, against servers written by hand and against a node.
#![allow(clippy::unwrap_used, missing_docs)]

mod closing;
mod fake;
mod node;
mod opening;
mod pushes;
mod requests;
mod resuming;
mod websocket;

use std::time::Duration;

use tokio::time::timeout;

/// Long enough for anything here on a slow machine; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .expect("nothing happened before the deadline")
}
