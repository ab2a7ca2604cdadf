//! Drains a node that was asked to.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::{
    drain::{Drain, Step},
    hooks::{self, Hook},
};
use crate::{cluster::DataPlane, component::Service, gate::Gate, handle::Handle};

/// How often the sessions are counted and the deadline is read.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The parts of a node that a drain concerns.
pub(super) struct Draining {
    pub(super) node: Handle,
    pub(super) gate: Arc<Gate>,
    pub(super) services: Arc<Vec<Service>>,
    pub(super) data_plane: Option<Arc<DataPlane>>,
}

impl Draining {
    /// Waits until a drain is asked for, drains, and asks the node to stop.
    pub(super) async fn run(self) {
        self.node.lifecycle().drain_requested().await;
        // Other members learn of it at once: unlike load balancers they need no delay.
        if let Some(data_plane) = &self.data_plane {
            data_plane.cordon();
        }
        let hook = async {
            let called = hooks::call(Hook::BeforeDrain, &self.node, &self.services).await;
            if let Err(failed) = called {
                let (component, hook, error) = (failed.component, failed.hook, failed.error);
                error!(component, hook, %error, "hook failed");
            }
        };
        // A hook that blocks does not hold up the deadline: the shutdown ends this future.
        tokio::join!(hook, self.until_left());
    }

    async fn until_left(&self) {
        let begun = Instant::now();
        let deadline = || self.node.lifecycle().drain_deadline().unwrap_or(begun);
        let within = deadline().saturating_duration_since(begun);
        let count = || self.node.sessions().count();
        // How long listeners stay open.
        let delay = self.node.lifecycle().stop_times().delay;
        let delay = delay.unwrap_or_default();
        info!(sessions = count(), ?within, ?delay, "node draining");
        let mut drain = Drain::new(begun, delay, deadline());
        let mut migration = pin!(self.gate.migrate_sessions());
        let mut listening = true;
        loop {
            drain.set_deadline(deadline());
            let now = Instant::now();
            match drain.step(now, count()) {
                Step::CloseListeners => {
                    self.gate.close_listeners().await;
                    listening = false;
                    info!(
                        sessions = count(),
                        "listeners closed, waiting for players to leave"
                    );
                }
                Step::Wait(until) => {
                    let poll = sleep_until(until.min(now + POLL_INTERVAL));
                    tokio::select! {
                        () = poll => {}
                        // Clients that come back must not find this gate.
                        () = &mut migration, if !listening => {}
                    }
                }
                Step::Left => {
                    info!(took = ?begun.elapsed(), "drained, all players have left");
                    break;
                }
                Step::Overdue => {
                    let staying = self.gate.staying();
                    let obstacles = (staying.sessions() != 0).then(|| staying.to_string());
                    warn!(
                        sessions = count(),
                        obstacles, "drain deadline passed, stopping with players connected"
                    );
                    break;
                }
            }
        }
        self.node.shutdown();
    }
}
