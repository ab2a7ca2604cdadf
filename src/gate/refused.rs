//! Why clients are refused or disconnected: counted, and logged where an operator acts on it.

use std::{
    fmt::{self, Display},
    net::SocketAddr,
    time::Duration,
};

use tracing::{debug, field::display, info, warn};

use crate::{
    log_limit::LogLimit,
    metrics::Metrics,
    session::{CloseReason, Session},
};

/// The least time between two lines about one cause. Clients can cause as many as they like.
const INTERVAL: Duration = Duration::from_secs(10);

/// Why a client gets no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The node has as many connections as it may.
    Limit,
    /// Its address has too many connections.
    AddressLimit,
    /// By the deny list.
    Denied,
    /// A trusted proxy did not say where it comes from.
    ProxyHeader,
    /// Its TLS handshake failed.
    Tls,
    /// Its request does not open a WebSocket here.
    Upgrade,
}

impl Refused {
    /// The value of the label `reason`.
    fn label(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::AddressLimit => "address_limit",
            Self::Denied => "denied",
            Self::ProxyHeader => "proxy_header",
            Self::Tls => "tls",
            Self::Upgrade => "upgrade",
        }
    }
}

/// The address of a client in a log line. Proxies that forward HTTP name no port.
struct Client(SocketAddr);

impl Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.port() {
            0 => self.0.ip().fmt(f),
            _ => self.0.fmt(f),
        }
    }
}

/// What holds lines back, by cause.
pub(super) struct RefusedLog {
    refused: [LogLimit; 6],
    slow: LogLimit,
    over_rate: LogLimit,
}

impl Default for RefusedLog {
    fn default() -> Self {
        let limit = || LogLimit::every(INTERVAL);
        Self {
            refused: std::array::from_fn(|_| limit()),
            slow: limit(),
            over_rate: limit(),
        }
    }
}

impl RefusedLog {
    /// A client is refused. `detail` is what its kind of cause leaves open.
    pub(super) fn refused(
        &self,
        metrics: &Metrics,
        cause: Refused,
        client: Option<SocketAddr>,
        detail: impl Display,
    ) {
        let (reason, client) = (cause.label(), client.map(|it| display(Client(it))));
        metrics.connection_refused(reason);
        let Some(held_back) = self.refused[cause as usize].pass() else {
            return debug!(reason, client, %detail, "connection refused");
        };
        match cause {
            // Players who did nothing wrong do not get in.
            Refused::Limit => warn!(reason, client, %detail, held_back, "connection refused"),
            _ => info!(reason, client, %detail, held_back, "connection refused"),
        }
    }

    /// A session has ended. Says so if its client does what an operator looks after.
    pub(super) fn closed(&self, session: &Session, reason: &CloseReason) {
        let limit = match reason {
            CloseReason::SlowClient => &self.slow,
            CloseReason::RateLimit => &self.over_rate,
            _ => return,
        };
        if let Some(held_back) = limit.pass() {
            info!(session = session.id(), user = session.logged_user(), remote = session.remote_addr().map(|it| display(Client(it))), %reason, held_back, "client disconnected");
        }
    }
}
