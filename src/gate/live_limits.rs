//! The limits and time-outs of clients that may change while the node runs.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use super::{
    config::{GateConfig, SlowClient},
    rate_limit::RateLimit,
};
use crate::trace::Sampling;

/// The current limits. A change holds at once, for connections that are open too, but for the
/// longest packet and the time-outs, which hold for connections that have yet to get there.
///
/// Each value is read by itself: during a change a connection may see some of the new ones only.
#[derive(Debug)]
pub(crate) struct LiveLimits {
    max_packet: AtomicUsize,
    max_connections: AtomicUsize,
    /// `usize::MAX` without a limit.
    per_address: AtomicUsize,
    max_in_flight: AtomicUsize,
    queue_bytes: AtomicUsize,
    queue_messages: AtomicUsize,
    unacknowledged_bytes: AtomicUsize,
    unacknowledged_messages: AtomicUsize,
    drop_pushes: AtomicBool,
    /// Messages a second in the upper half, the burst in the lower; 0 without a limit.
    rate: AtomicU64,
    rate_disconnects: AtomicBool,
    /// 0 if no message is sampled.
    sampling: AtomicU64,
    handshake_timeout: LiveDuration,
    check_timeout: LiveDuration,
    login_timeout: LiveDuration,
    tcp_keepalive: LiveDuration,
    reconnect_window: LiveDuration,
}

/// A duration in nanoseconds; 0 for none.
#[derive(Debug, Default)]
struct LiveDuration(AtomicU64);

impl LiveDuration {
    fn set(&self, duration: Option<Duration>) {
        let nanoseconds = duration.unwrap_or_default().as_nanos();
        let nanoseconds = nanoseconds.try_into().unwrap_or(u64::MAX);
        self.0.store(nanoseconds, Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        let nanoseconds = self.0.load(Relaxed);
        (nanoseconds != 0).then(|| Duration::from_nanos(nanoseconds))
    }
}

impl LiveLimits {
    pub(super) fn new(config: &GateConfig) -> Self {
        let limits = Self {
            max_packet: AtomicUsize::default(),
            max_connections: AtomicUsize::default(),
            per_address: AtomicUsize::default(),
            max_in_flight: AtomicUsize::default(),
            queue_bytes: AtomicUsize::default(),
            queue_messages: AtomicUsize::default(),
            unacknowledged_bytes: AtomicUsize::default(),
            unacknowledged_messages: AtomicUsize::default(),
            drop_pushes: AtomicBool::default(),
            rate: AtomicU64::default(),
            rate_disconnects: AtomicBool::default(),
            sampling: AtomicU64::default(),
            handshake_timeout: LiveDuration::default(),
            check_timeout: LiveDuration::default(),
            login_timeout: LiveDuration::default(),
            tcp_keepalive: LiveDuration::default(),
            reconnect_window: LiveDuration::default(),
        };
        limits.set(config);
        limits
    }

    /// Takes the limits of a configuration that was [checked](GateConfig::check_limits).
    pub(crate) fn set(&self, config: &GateConfig) {
        self.max_packet.store(config.max_packet, Relaxed);
        self.max_connections.store(config.max_connections, Relaxed);
        let per_address = config.max_connections_per_address.unwrap_or(usize::MAX);
        self.per_address.store(per_address, Relaxed);
        self.max_in_flight.store(config.max_in_flight, Relaxed);
        self.queue_bytes.store(config.queue_bytes, Relaxed);
        self.queue_messages.store(config.queue_messages, Relaxed);
        let bytes = config.unacknowledged_bytes.unwrap_or(config.queue_bytes);
        self.unacknowledged_bytes.store(bytes, Relaxed);
        let messages = config.unacknowledged_messages;
        let messages = messages.unwrap_or(config.queue_messages);
        self.unacknowledged_messages.store(messages, Relaxed);
        let drop_pushes = config.slow_client == SlowClient::DropPushes;
        self.drop_pushes.store(drop_pushes, Relaxed);
        let rate = config.rate_limit.map_or(0, RateLimit::to_bits);
        self.rate.store(rate, Relaxed);
        let disconnects = config.rate_limit.is_some_and(|limit| limit.disconnect);
        self.rate_disconnects.store(disconnects, Relaxed);
        self.sampling.store(config.sampling.to_bits(), Relaxed);
        self.handshake_timeout.set(Some(config.handshake_timeout));
        self.check_timeout.set(Some(config.check_timeout));
        self.login_timeout.set(config.login_timeout);
        self.tcp_keepalive.set(config.tcp_keepalive);
        self.reconnect_window.set(config.reconnect_window);
    }

    pub(super) fn max_packet(&self) -> usize {
        self.max_packet.load(Relaxed)
    }

    pub(super) fn max_connections(&self) -> usize {
        self.max_connections.load(Relaxed)
    }

    /// The most connections of one address, if there is a limit.
    pub(super) fn per_address(&self) -> Option<usize> {
        Some(self.per_address.load(Relaxed)).filter(|limit| *limit < usize::MAX)
    }

    pub(super) fn max_in_flight(&self) -> usize {
        self.max_in_flight.load(Relaxed)
    }

    pub(super) fn queue_bytes(&self) -> usize {
        self.queue_bytes.load(Relaxed)
    }

    pub(super) fn queue_messages(&self) -> usize {
        self.queue_messages.load(Relaxed)
    }

    /// The most bytes that are kept for a client that may return.
    pub(super) fn unacknowledged_bytes(&self) -> usize {
        self.unacknowledged_bytes.load(Relaxed)
    }

    /// The most messages that are kept for it.
    pub(super) fn unacknowledged_messages(&self) -> usize {
        self.unacknowledged_messages.load(Relaxed)
    }

    pub(super) fn drops_pushes(&self) -> bool {
        self.drop_pushes.load(Relaxed)
    }

    /// Which messages are sampled; `None` if none is.
    pub(super) fn sampling(&self) -> Option<Sampling> {
        Sampling::from_bits(self.sampling.load(Relaxed))
    }

    pub(super) fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout.get().unwrap_or_default()
    }

    pub(super) fn check_timeout(&self) -> Duration {
        self.check_timeout.get().unwrap_or_default()
    }

    pub(super) fn login_timeout(&self) -> Option<Duration> {
        self.login_timeout.get()
    }

    pub(super) fn tcp_keepalive(&self) -> Option<Duration> {
        self.tcp_keepalive.get()
    }

    pub(super) fn reconnect_window(&self) -> Option<Duration> {
        self.reconnect_window.get()
    }

    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        match self.rate.load(Relaxed) {
            0 => None,
            bits => Some(RateLimit::from_bits(
                bits,
                self.rate_disconnects.load(Relaxed),
            )),
        }
    }
}
