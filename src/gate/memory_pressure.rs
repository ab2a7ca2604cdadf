//! Keeps the memory budget: finds the queues that are the fullest, and disconnects clients.

use std::{any::Any, sync::Weak, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use self::share::share;
use super::{handle::ConnectionHandle, shared::Shared};
use crate::session::{CloseReason, Session};

mod share;

/// How often the queues are looked at while too much is queued.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks at the queues whenever too much is queued, and decides which are too full, until the gate is
/// gone.
///
/// From 80 % of the budget on, the fullest queues, those to other nodes too, refuse what they may
/// refuse. At the budget the clients among them are disconnected, until 80 % is left.
pub(super) async fn run(gate: Weak<Shared>) {
    loop {
        let Some(pressed) = gate.upgrade().map(|gate| gate.memory.pressed.clone()) else {
            return;
        };
        pressed.notified().await;
        let (begun, mut disconnected, mut pressed) = (Instant::now(), 0, false);
        while let Some(gate) = gate.upgrade()
            && gate.memory.used() >= gate.memory.mark()
        {
            pressed = true;
            disconnected += gate.relieve();
            drop(gate);
            sleep(INTERVAL).await;
        }
        let Some(gate) = gate.upgrade() else {
            return;
        };
        gate.memory.set_share(usize::MAX);
        if pressed {
            let took = begun.elapsed();
            info!(?took, disconnected, "memory budget kept");
        }
    }
}

impl Shared {
    /// Finds the share that each queue may have, and disconnects the clients above it if the budget
    /// is used up. Returns their number.
    fn relieve(&self) -> usize {
        let sessions = self.node.sessions().list_local();
        let queued: Vec<_> = sessions.iter().filter_map(queued).collect();
        let mut bytes = self.memory.peers();
        bytes.extend(queued.iter().map(|(_, bytes)| *bytes));
        let share = share(&mut bytes, self.memory.mark());
        self.memory.set_share(share);
        if self.memory.used() < self.memory.limit() {
            return 0;
        }
        let slow: Vec<_> = queued.iter().filter(|(_, bytes)| *bytes > share).collect();
        if !slow.is_empty() {
            warn!(
                limit = self.memory.limit(),
                share,
                clients = slow.len(),
                "memory budget used up: disconnecting the slowest clients"
            );
        }
        for (handle, _) in &slow {
            self.metrics.memory_disconnects.increment(1);
            handle.end_with(CloseReason::SlowClient.into());
        }
        slow.len()
    }
}

/// The connection of a session, and the bytes it has queued.
fn queued(session: &Session) -> Option<(&ConnectionHandle, usize)> {
    let sink: &dyn Any = &**session.sink();
    let handle: &ConnectionHandle = sink.downcast_ref()?;
    Some((handle, handle.queued_bytes()))
}
