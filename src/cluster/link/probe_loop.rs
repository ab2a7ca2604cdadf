//! Probes links in a fixed interval while they are in use: suspects silent peers, closes dead streams
//! and idle ones, and ends what was cut off for too long. Sleeps otherwise.

use std::sync::{Arc, Weak};

use tokio::time::{Instant, sleep, sleep_until};

use super::{config::PROBE_INTERVAL, detector_wake::DetectorWake, peers::LinkPeers};

/// Probes until the node is gone.
pub(in crate::cluster) async fn run(peers: Weak<LinkPeers>, wake: Arc<DetectorWake>) {
    loop {
        sleep(PROBE_INTERVAL).await;
        wake.arm();
        let now = Instant::now();
        let next = match peers.upgrade() {
            Some(peers) => peers.probe(now),
            None => return,
        };
        match next {
            Some(at) if at <= now + PROBE_INTERVAL => wake.disarm(),
            Some(at) => {
                tokio::select! {
                    () = sleep_until(at - PROBE_INTERVAL) => {}
                    () = wake.woken() => {}
                }
            }
            None => wake.woken().await,
        }
    }
}
