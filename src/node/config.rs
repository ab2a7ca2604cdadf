//! Everything an application chose about a node, and whether it is valid.

use std::{sync::Arc, time::Duration};

use bytestring::ByteString;

#[cfg(feature = "admin")]
use crate::admin;
use crate::{
    channel::ChannelLimits,
    cluster,
    component::{ErrorReporter, Service},
    error::{Error, Result, code},
    filter::AnyFilter,
    gate::{GateConfig, Listener, LiveLimits},
    handle::{Handle, Schedulers, StopTimes, Unique},
    member,
    net::network::Network,
    pipeline::Pipeline,
    session::{CloseReason, OnBind, Session},
    trace::OnSpan,
};

/// The longest duration of an option, so that adding one to an instant cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Registers one component, once there are schedulers to run its handlers.
type BuildService =
    Box<dyn FnOnce(&Schedulers, &Arc<ErrorReporter>, &[AnyFilter]) -> Result<Service> + Send>;
type OnError = Box<dyn Fn(&Session, &str, Error) -> Error + Send + Sync>;
/// Reads the configuration again and applies what can change.
/// Returns the keys that need a restart.
pub(crate) type Reload = Box<dyn Fn(&Handle, &LiveLimits) -> Result<Vec<String>> + Send + Sync>;
type OnSessionClosed = Box<dyn Fn(&Session, &CloseReason) + Send + Sync>;

/// The options of a node.
pub(crate) struct NodeConfig {
    /// The version of the application; empty for none.
    pub(crate) version: String,
    pub(crate) components: Vec<BuildService>,
    pub(crate) filters: Vec<AnyFilter>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) denied: Vec<Network>,
    pub(crate) settings: GateConfig,
    pub(crate) cluster: cluster::Settings,
    #[cfg(feature = "admin")]
    pub(crate) admin: Option<admin::Settings>,
    pub(crate) dictionary: DictionarySource,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) on_error: Option<OnError>,
    pub(crate) expose_errors: bool,
    /// Names the spans of sampled messages.
    pub(crate) on_span: Option<OnSpan>,
    pub(crate) on_session_closed: Vec<OnSessionClosed>,
    /// May refuse a user of a session.
    pub(crate) on_bind: Option<OnBind>,
    /// What a login does while its user has another session.
    pub(crate) unique_users: Option<Unique>,
    /// I/O threads of the node's own; 0 uses the caller's runtime.
    pub(crate) io_threads: usize,
    /// Scheduler threads of the node's own; 0 uses the caller's runtime.
    pub(crate) scheduler_threads: usize,
    pub(crate) scheduler_capacity: usize,
    pub(crate) channels: ChannelLimits,
    pub(crate) timer_precision: Duration,
    pub(crate) shutdown_timeout: Duration,
    /// How long SIGTERM lets players leave.
    pub(crate) drain: Option<Duration>,
    /// How long a draining node keeps listening.
    pub(crate) shutdown_delay: Option<Duration>,
    /// `None` if the node was not configured from a file or the environment.
    pub(crate) reload: Option<Reload>,
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
        self.check_limits()?;
        member::check_version(&self.version)
            .map_err(|fault| invalid(format!("version: {fault}")))?;
        self.cluster.check()
    }

    /// Validates the limits, all of which a reload may change.
    ///
    /// # Errors
    /// Names the invalid one.
    pub(crate) fn check_limits(&self) -> Result {
        not_zero("limits.scheduler_capacity", self.scheduler_capacity == 0)?;
        not_zero("limits.max_channels", self.channels.most == 0)?;
        not_zero(
            "limits.max_channels_per_session",
            self.channels.per_session == 0,
        )?;
        self.settings.check_limits()
    }

    pub(crate) fn stop_times(&self) -> StopTimes {
        StopTimes {
            shutdown: self.shutdown_timeout,
            drain: self.drain,
            delay: self.shutdown_delay,
        }
    }

    /// Validates time-outs and intervals.
    ///
    /// # Errors
    /// Names the invalid one.
    pub(crate) fn check_durations(&self) -> Result {
        let (gate, cluster) = (&self.settings, &self.cluster);
        let durations = [
            ("timeouts.heartbeat", gate.heartbeat),
            ("timeouts.handshake", Some(gate.handshake_timeout)),
            ("timeouts.handshake_check", Some(gate.check_timeout)),
            ("timeouts.login", gate.login_timeout),
            ("timeouts.request", gate.request_timeout),
            ("timeouts.reconnect_window", gate.reconnect_window),
            ("timeouts.tcp_keepalive", gate.tcp_keepalive),
            ("timeouts.resume_window", gate.resume_window),
            ("timeouts.shutdown", Some(self.shutdown_timeout)),
            ("timeouts.drain", self.drain),
            ("timeouts.shutdown_delay", self.shutdown_delay),
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
