//! The schedulers a session is pinned to.

use parking_lot::RwLock;

use crate::scheduler::Scheduler;

/// Schedulers by the name components are registered with. A list, as a session has one or two.
#[derive(Default)]
pub(crate) struct Pins(RwLock<Vec<(String, Scheduler)>>);

impl Pins {
    pub(super) fn pin(&self, name: &str, scheduler: &Scheduler) {
        let mut pins = self.0.write();
        match pins.iter_mut().find(|(pinned, _)| pinned == name) {
            Some((_, pinned)) => *pinned = scheduler.clone(),
            None => pins.push((name.to_owned(), scheduler.clone())),
        }
    }

    /// Whether the name was pinned to this scheduler.
    pub(super) fn unpin(&self, name: &str, scheduler: &Scheduler) -> bool {
        let mut pins = self.0.write();
        let at = pins
            .iter()
            .position(|(pinned, to)| pinned == name && to == scheduler);
        at.map(|at| pins.swap_remove(at)).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    pub(super) fn get(&self, name: &str) -> Option<Scheduler> {
        self.0
            .read()
            .iter()
            .find(|(pinned, _)| pinned == name)
            .map(|(_, scheduler)| scheduler.clone())
    }
}
