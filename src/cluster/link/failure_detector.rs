//! Probes all links in a fixed interval: keeps idle ones alive, suspects silent peers, closes dead
//! streams, and ends what was cut off for too long.

use std::sync::Weak;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{config::PROBE_INTERVAL, peers::LinkPeers};

/// Probes until the node is gone.
pub(in crate::cluster) async fn run(peers: Weak<LinkPeers>) {
    let mut probes = interval(PROBE_INTERVAL);
    probes.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        probes.tick().await;
        let Some(peers) = peers.upgrade() else { return };
        let now = Instant::now();
        peers.context.calls.expire(now);
        for peer in peers.list() {
            peers.probe(&peer, now);
        }
    }
}
