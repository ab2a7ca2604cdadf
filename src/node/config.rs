//! Everything an application chose about a node, and whether it is valid.

use std::{sync::Arc, time::Duration};

use bytestring::ByteString;

use crate::{
    cluster,
    component::{ErrorReporter, Service},
    error::{Error, Result, code},
    filter::AnyFilter,
    gate::{GateConfig, Listener},
    handle::Handle,
    net::network::Network,
    packet,
    pipeline::Pipeline,
    session::{CloseReason, Session},
};

/// The longest duration of an option, so that adding one to an instant cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Registers one component, once there is a handle to give it.
type BuildService =
    Box<dyn FnOnce(&Handle, &Arc<ErrorReporter>, &[AnyFilter]) -> Result<Service> + Send>;
type OnError = Box<dyn Fn(&Session, &str, Error) -> Error + Send + Sync>;
type OnSessionClosed = Box<dyn Fn(&Session, &CloseReason) + Send + Sync>;

/// The options of a node.
pub(crate) struct NodeConfig {
    pub(crate) components: Vec<BuildService>,
    pub(crate) filters: Vec<AnyFilter>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) denied: Vec<Network>,
    pub(crate) settings: GateConfig,
    pub(crate) cluster: cluster::Settings,
    pub(crate) dictionary: DictionarySource,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) on_error: Option<OnError>,
    pub(crate) expose_errors: bool,
    pub(crate) on_session_closed: Vec<OnSessionClosed>,
    /// I/O threads of the node's own; 0 uses the caller's runtime.
    pub(crate) io_threads: usize,
    /// Scheduler threads of the node's own; 0 uses the caller's runtime.
    pub(crate) scheduler_threads: usize,
    pub(crate) scheduler_capacity: usize,
    pub(crate) timer_precision: Duration,
    pub(crate) shutdown_timeout: Duration,
}

/// Where the route dictionary comes from.
pub(crate) enum DictionarySource {
    /// These routes and codes.
    Given(Vec<(ByteString, u16)>),
    /// The routes of all handlers that are open to clients, and these routes of pushes.
    Routes(Vec<ByteString>),
}

impl NodeConfig {
    /// Validates all options that need no I/O, and gives the cluster's addresses their canonical
    /// form.
    ///
    /// # Errors
    /// Names the invalid option.
    pub(super) fn check(&mut self) -> Result {
        self.check_durations()?;
        let gate = &self.settings;
        not_zero("limits.max_connections", gate.max_connections == 0)?;
        let none_per_address = gate.max_connections_per_address == Some(0);
        not_zero("limits.max_connections_per_address", none_per_address)?;
        not_zero("limits.max_in_flight", gate.max_in_flight == 0)?;
        not_zero("limits.send_queue_bytes", gate.queue_bytes == 0)?;
        not_zero("limits.send_queue_messages", gate.queue_messages == 0)?;
        not_zero("limits.scheduler_capacity", self.scheduler_capacity == 0)?;
        let zero_rate = gate.rate_limit.is_some_and(|limit| !limit.is_valid());
        not_zero("limits.rate_limit", zero_rate)?;
        if !(1..=packet::MAX_BODY).contains(&gate.max_packet) {
            return Err(invalid(format!(
                "limits.max_packet must be from 1 to {}, not {}",
                packet::MAX_BODY,
                gate.max_packet
            )));
        }
        self.cluster.check()
    }

    fn check_durations(&self) -> Result {
        let (gate, cluster) = (&self.settings, &self.cluster);
        let durations = [
            ("timeouts.heartbeat", gate.heartbeat),
            ("timeouts.handshake", Some(gate.handshake_timeout)),
            ("timeouts.handshake_check", Some(gate.check_timeout)),
            ("timeouts.login", gate.login_timeout),
            ("timeouts.request", gate.request_timeout),
            ("timeouts.reconnect_window", gate.reconnect_window),
            ("timeouts.tcp_keepalive", gate.tcp_keepalive),
            ("timeouts.shutdown", Some(self.shutdown_timeout)),
            ("timer_precision", Some(self.timer_precision)),
            ("cluster.retry_interval", cluster.retry_interval),
            ("cluster.heartbeat", cluster.heartbeat),
            (
                "cluster.authentication_timeout",
                cluster.authentication_timeout,
            ),
        ];
        for (name, duration) in durations {
            let duration = duration.unwrap_or(MAX_DURATION);
            // A node may be stopped without any grace.
            not_zero(name, duration.is_zero() && name != "timeouts.shutdown")?;
            if duration > MAX_DURATION {
                return Err(invalid(format!("{name} must not be longer than a year")));
            }
        }
        // The system counts seconds.
        if gate
            .tcp_keepalive
            .is_some_and(|interval| interval < Duration::from_secs(1))
        {
            return Err(invalid(
                "timeouts.tcp_keepalive must be at least a second".to_owned(),
            ));
        }
        Ok(())
    }
}

fn not_zero(name: &str, is_zero: bool) -> Result {
    match is_zero {
        true => Err(invalid(format!("{name} must not be zero"))),
        false => Ok(()),
    }
}

fn invalid(message: String) -> Error {
    Error::new(code::BAD_REQUEST, message)
}
