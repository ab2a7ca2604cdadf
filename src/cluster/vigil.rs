//! Looks at all links now and then: a node that has nothing to say says that it is alive, and who
//! does not even say that is noticed.
//!
//! Time is counted in looks, not read from a clock: when this node itself was stopped or has too
//! much to do, it looks less often, and blames nobody.

use std::sync::{Arc, Weak};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

use super::{
    link::{BROKEN, LOOK, SILENT},
    peers::Peers,
};

/// Looks until the node is gone.
pub(super) async fn run(peers: Weak<Peers>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        looks.tick().await;
        let Some(peers) = peers.upgrade() else { return };
        peers.look();
    }
}

impl Peers {
    fn look(self: &Arc<Self>) {
        self.calls.expire(Instant::now());
        for peer in self.everybody().0 {
            for (index, (shard, inlet)) in peer.shards.iter().zip(&peer.inlets).enumerate() {
                shard.look();
                let Some((stream, quiet)) = inlet.look() else {
                    continue;
                };
                if quiet == SILENT {
                    warn!(peer = %peer.address, shard = index, "nothing is heard of a node: others are preferred for new sessions");
                } else if quiet >= BROKEN {
                    warn!(peer = %peer.address, shard = index, "nothing is heard of a node: its link is given up");
                    self.inlet_broken(&peer, index, stream);
                }
            }
        }
    }
}
