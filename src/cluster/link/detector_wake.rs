//! Wakes the failure detector, which sleeps while no link is in use.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// Whether the failure detector sleeps, and what wakes it.
#[derive(Default)]
pub(in crate::cluster) struct DetectorWake {
    asleep: AtomicBool,
    notify: Notify,
}

impl DetectorWake {
    /// Something was sent or received, or a stream has come or gone. Called for every batch: costs a
    /// load while the detector is awake.
    pub(super) fn wake(&self) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Asks to be woken by what happens from now on: to be called before the links are probed, whose
    /// locks give it an order with what happens to them.
    pub(super) fn arm(&self) {
        self.asleep.store(true, Ordering::Release);
    }

    /// Stays awake.
    pub(super) fn disarm(&self) {
        self.asleep.store(false, Ordering::Release);
    }

    /// Waits until it is woken, now or since it was armed.
    pub(super) fn woken(&self) -> impl Future<Output = ()> + '_ {
        self.notify.notified()
    }
}
