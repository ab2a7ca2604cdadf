//! Sessions whose end is under way, for what waits until it is over.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The ends that are under way on one node, by session id.
///
/// A leaf lock. An id is listed while an [`EndHold`] of it lives.
#[derive(Default)]
pub(super) struct Endings(Mutex<HashMap<i64, Ending>>);

#[derive(Default)]
struct Ending {
    holds: usize,
    /// Dropped when the last hold is.
    waiting: Vec<oneshot::Sender<()>>,
}

/// Keeps the end of a session from being over.
pub(crate) struct EndHold {
    endings: Arc<Endings>,
    id: i64,
}

impl Endings {
    pub(super) fn hold(self: &Arc<Self>, id: i64) -> EndHold {
        self.0.lock().entry(id).or_default().holds += 1;
        EndHold {
            endings: self.clone(),
            id,
        }
    }

    /// Waits until no end of the session is under way.
    pub(super) async fn over(&self, id: i64) {
        let over = {
            let mut endings = self.0.lock();
            let Some(ending) = endings.get_mut(&id) else {
                return;
            };
            let (sender, over) = oneshot::channel();
            ending.waiting.push(sender);
            over
        };
        // An error is the drop of the sender, which is what this waits for.
        let _ = over.await;
    }
}

impl Drop for EndHold {
    fn drop(&mut self) {
        let mut endings = self.endings.0.lock();
        let Some(ending) = endings.get_mut(&self.id) else {
            return;
        };
        ending.holds -= 1;
        if ending.holds == 0 {
            let over = endings.remove(&self.id);
            // Wakes tasks, so not under the lock.
            drop(endings);
            drop(over);
        }
    }
}
