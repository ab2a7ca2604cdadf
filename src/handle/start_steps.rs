//! Which steps of a node's start are done.

use std::sync::atomic::{AtomicBool, Ordering};

/// A step that a node needs to serve.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The components' hooks have run.
    Components,
    /// The node has joined its cluster, if it is part of one.
    Cluster,
    /// Clients can connect.
    Listeners,
}

const STEPS: [(Step, &str); 3] = [
    (Step::Components, "components"),
    (Step::Cluster, "cluster"),
    (Step::Listeners, "listeners"),
];

/// The steps that are done. None is ever undone.
#[derive(Debug, Default)]
pub(super) struct StartSteps([AtomicBool; STEPS.len()]);

impl StartSteps {
    pub(super) fn done(&self, step: Step) {
        self.0[step as usize].store(true, Ordering::Release);
    }

    /// The names of the steps that are missing.
    pub(super) fn missing(&self) -> impl Iterator<Item = &'static str> {
        let missing = |(step, _): &(Step, _)| !self.0[*step as usize].load(Ordering::Acquire);
        STEPS.into_iter().filter(missing).map(|(_, name)| name)
    }
}
