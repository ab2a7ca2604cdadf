//! What one client and one scheduler may use.

use crate::{
    channel::ChannelLimits,
    gate::{RateLimit, SlowClient, default_memory},
    node::NodeConfig,
};

/// The bounds of a node: what one client, one scheduler and all clients together may use.
///
/// A [reload](crate::Handle::reload) of the configuration changes all of them at once, but for
/// [`max_packet`](Limits::max_packet) and what a client that is connected has
/// [unacknowledged](Limits::unacknowledged_bytes): new ones are for clients that connect later.
///
/// ```
/// use nano::{App, Limits, RateLimit, SlowClient};
///
/// let app = App::new().limits(
///     Limits::new()
///         .max_connections(10_000)
///         .max_packet(16 * 1024)
///         .rate_limit(RateLimit::throttle(50, 100))
///         .slow_client(SlowClient::DropPushes),
/// );
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
#[must_use = "has no effect until it is given to `App::limits`"]
pub struct Limits {
    max_packet: usize,
    max_connections: Option<usize>,
    max_connections_per_address: Option<usize>,
    max_in_flight: usize,
    rate_limit: Option<RateLimit>,
    send_queue_bytes: usize,
    send_queue_messages: usize,
    unacknowledged_bytes: Option<usize>,
    unacknowledged_messages: Option<usize>,
    slow_client: SlowClient,
    scheduler_capacity: usize,
    channels: ChannelLimits,
    /// The outer `None` is the default.
    memory: Option<Option<usize>>,
}

impl Limits {
    /// The defaults, as each method documents them.
    pub fn new() -> Self {
        Self {
            max_packet: 64 * 1024,
            max_connections: None,
            max_connections_per_address: None,
            max_in_flight: 1024,
            rate_limit: None,
            send_queue_bytes: 4 * 1024 * 1024,
            send_queue_messages: 64 * 1024,
            unacknowledged_bytes: None,
            unacknowledged_messages: None,
            slow_client: SlowClient::default(),
            scheduler_capacity: 16 * 1024,
            channels: ChannelLimits::default(),
            memory: None,
        }
    }

    /// The longest packet body a client may send, in bytes: 1 to 16,777,215. A longer one closes
    /// the connection. 65,536 unless set, as in nano.
    pub fn max_packet(mut self, bytes: usize) -> Self {
        self.max_packet = bytes;
        self
    }

    /// How many clients may be connected; further connections are refused at once. `None`, the
    /// default, is no limit; not zero.
    pub fn max_connections(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections = connections.into();
        self
    }

    /// How many connections one client address may have; further ones are refused at once. `None`,
    /// the default, is no limit; not zero.
    ///
    /// An IPv6 client counts by the first 64 bits of its address, which one household or machine has
    /// for itself. Behind a trusted proxy the client's own address counts. Whole schools and mobile
    /// networks share an IPv4 address.
    pub fn max_connections_per_address(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections_per_address = connections.into();
        self
    }

    /// How many requests of one client may be in flight, and how many of its messages may wait for
    /// a handler. 1,024 unless set; not zero.
    ///
    /// A request beyond it is answered with [`code::TOO_MANY`](crate::code::TOO_MANY). Messages
    /// beyond it stay in the client's socket.
    pub fn max_in_flight(mut self, messages: usize) -> Self {
        self.max_in_flight = messages;
        self
    }

    /// How many messages one client may send. `None`, the default, is no limit.
    pub fn rate_limit(mut self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.rate_limit = limit.into();
        self
    }

    /// How many bytes may wait in one client's send queue. 4 MiB unless set; not zero. A single
    /// message may be larger.
    pub fn send_queue_bytes(mut self, bytes: usize) -> Self {
        self.send_queue_bytes = bytes;
        self
    }

    /// How many messages may wait in one client's send queue. 65,536 unless set; not zero.
    pub fn send_queue_messages(mut self, messages: usize) -> Self {
        self.send_queue_messages = messages;
        self
    }

    /// How many bytes are kept for a client that [may return](crate::Timeouts::resume_window) until it
    /// acknowledges them, and may wait for it while it is away. `None`, the default, is as many as
    /// its [send queue](Limits::send_queue_bytes) takes; not zero. A single message may be larger.
    ///
    /// A client that returns and needs what is not kept any more has lost its session, with the reason
    /// `overflow`. The session of a client that is away ends when more is sent to it, or the push is
    /// dropped: see [`slow_client`](Limits::slow_client). A reload changes at once what may wait for a
    /// client that is away, and for clients that connect later what else is kept.
    pub fn unacknowledged_bytes(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.unacknowledged_bytes = bytes.into();
        self
    }

    /// As [`unacknowledged_bytes`](Limits::unacknowledged_bytes), the number of messages.
    pub fn unacknowledged_messages(mut self, messages: impl Into<Option<usize>>) -> Self {
        self.unacknowledged_messages = messages.into();
        self
    }

    /// What happens to a client whose send queue is full. [`SlowClient::Disconnect`] unless set.
    pub fn slow_client(mut self, policy: SlowClient) -> Self {
        self.slow_client = policy;
        self
    }

    /// How many bytes may be queued on the node, for all clients and for other nodes, those included
    /// that a client who [may return](crate::Timeouts::resume_window) has not acknowledged. A quarter
    /// of the machine's memory, or of that of the control group if it is less, unless set; at least
    /// [`send_queue_bytes`](Limits::send_queue_bytes). `None` is no limit.
    ///
    /// From 80 % on the fullest queues take no more, whatever their own bound is: pushes to those
    /// clients meet a full queue ([`slow_client`](Limits::slow_client)), and pushes, broadcasts and
    /// calls to those nodes fail with [`code::TOO_MANY`](crate::code::TOO_MANY). At the limit the
    /// clients with the fullest queues are disconnected, until 80 % is left. Up to 4 KiB of each client,
    /// and 64 KiB of each queue to a node, are not counted.
    ///
    /// A reload may change it, also from and to `None`. What is queued already counts: a lower limit
    /// that is used up disconnects clients at once, and a higher one lets the queues take more again.
    ///
    /// It bounds what is queued, not what the process takes: allocators keep some of what is freed,
    /// and the application has memory of its own.
    pub fn memory(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.memory = Some(bytes.into());
        self
    }

    /// How many tasks may wait on one scheduler. 16,384 unless set; not zero.
    ///
    /// Beyond it connections stop reading, and tasks the application pushes are refused. A reload changes
    /// it for schedulers that exist, too; tasks that wait stay.
    pub fn scheduler_capacity(mut self, tasks: usize) -> Self {
        self.scheduler_capacity = tasks;
        self
    }

    /// How many [channels](crate::Channel) this node may own at a time, with members on any gate or a
    /// history. 100,000 unless set; not zero.
    ///
    /// A join or publication that would make one more fails with
    /// [`code::TOO_MANY`](crate::code::TOO_MANY). A channel that has members already when this node
    /// becomes its owner is not refused. Channels that exist stay when a reload lowers the bound.
    pub fn max_channels(mut self, channels: usize) -> Self {
        self.channels.most = channels;
        self
    }

    /// How many [channels](crate::Channel) each session of this gate may be in. 1,000 unless set; not
    /// zero. Further joins fail with [`code::TOO_MANY`](crate::code::TOO_MANY), and a session in more
    /// channels does not move to this gate. When a reload lowers the bound, no session leaves a channel.
    pub fn max_channels_per_session(mut self, channels: usize) -> Self {
        self.channels.per_session = channels;
        self
    }
}

impl Limits {
    pub(super) fn apply_to(&self, config: &mut NodeConfig) {
        let gate = &mut config.settings;
        gate.max_packet = self.max_packet;
        gate.max_connections = self.max_connections.unwrap_or(usize::MAX);
        gate.max_connections_per_address = self.max_connections_per_address;
        gate.max_in_flight = self.max_in_flight;
        gate.rate_limit = self.rate_limit;
        gate.queue_bytes = self.send_queue_bytes;
        gate.queue_messages = self.send_queue_messages;
        gate.unacknowledged_bytes = self.unacknowledged_bytes;
        gate.unacknowledged_messages = self.unacknowledged_messages;
        gate.slow_client = self.slow_client;
        let memory = || default_memory(self.send_queue_bytes);
        gate.memory = self.memory.unwrap_or_else(memory);
        config.scheduler_capacity = self.scheduler_capacity;
        config.channels = self.channels;
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
