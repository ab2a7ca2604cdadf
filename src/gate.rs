//! The client side of a node: listeners, and a task per connection.
//!
//! `accept` turns a socket into a session and a `connection` task. The task drives its I/O and
//! asks `client_state` what to do; other threads reach the client through `handle`.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::timeout};
use tracing::info;

use crate::{
    cluster::{NodeCaller, NodeServices},
    dispatch::Dispatch,
    error::Result,
    handle::Handle,
    message::Dictionary,
    metrics::Metrics,
    session::CloseReason,
};

mod absence;
mod accept;
mod address_limit;
mod admission;
mod bound_listener;
mod client_state;
mod close_code;
mod compressed_body;
mod config;
mod connection;
mod connection_options;
mod connection_state;
mod departure;
mod detached;
mod encoding;
mod greeting;
mod handle;
mod handshake_check;
mod http_upgrade;
mod linger;
mod listener;
mod live_limits;
mod liveness;
mod memory_pressure;
mod migration_client;
mod migration_close;
mod migration_in;
mod migration_message;
mod migration_out;
mod migration_service;
mod migration_state;
mod moved_close;
mod obstacle;
mod opening;
mod pages;
mod pending_check;
mod rate_limit;
mod refused;
mod requests;
mod resume;
mod resume_handshake;
mod route_text;
mod send_queue;
mod session_guard;
mod shared;
#[cfg(test)]
mod simulation;
mod timed_out;
mod traffic;
mod tunnel;
mod tunnel_service;
mod upgrade_request;

pub use self::{
    config::SlowClient,
    handshake_check::{Accept, Handshake},
    listener::Listener,
    rate_limit::RateLimit,
    upgrade_request::UpgradeRequest,
};
pub(crate) use self::{
    config::{GateConfig, OpenHook, default_memory},
    live_limits::LiveLimits,
    obstacle::Staying,
};

#[cfg(feature = "admin")]
pub(crate) use self::timed_out::TimedOut;

use self::{
    accept::{accept, accept_custom},
    bound_listener::{Accepting, BoundListener},
    client_state::FLUSH_TIMEOUT,
    migration_out::{migrate_all, staying},
    migration_service::MigrationService,
    shared::Shared,
    tunnel::{client::TunnelClient, wire},
    tunnel_service::TunnelService,
};

/// The listeners and connections of a node.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    /// The accept loops, and the task that follows the certificate files. Held only to add one or to take all.
    accepting: Mutex<Vec<JoinHandle<()>>>,
}

/// Listeners whose addresses are bound, and which clients cannot reach yet.
pub(crate) struct BoundListeners {
    listeners: Vec<BoundListener>,
}

impl BoundListeners {
    /// Binds all addresses.
    ///
    /// # Errors
    /// Names the listener that is invalid, or whose address is in use.
    pub(crate) async fn bind(listeners: Vec<Listener>) -> Result<Self> {
        let mut bound = Vec::with_capacity(listeners.len());
        for listener in listeners {
            bound.push(listener.bind().await?);
        }
        Ok(Self { listeners: bound })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Returns the addresses in the order of the listeners; transports without one are left out.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter().filter_map(BoundListener::local_addr);
        addresses.collect()
    }

    /// Starts to listen and to accept; returns the addresses in the order of the listeners.
    ///
    /// # Errors
    /// Names the address that cannot be listened on.
    pub(crate) fn open(self, gate: &Gate) -> Result<Vec<SocketAddr>> {
        let active: Vec<_> = self
            .listeners
            .into_iter()
            .map(BoundListener::listen)
            .collect::<Result<_>>()?;
        gate.shared.migrations.set_listening(!active.is_empty());
        let addresses = active
            .iter()
            .filter_map(|listener| listener.address)
            .collect();
        for listener in active {
            let options = &listener.options;
            info!(
                address = listener.address.map(display),
                websocket = options.websocket.as_ref().map(|options| &*options.path),
                tls = options.tls.is_some(),
                "listening"
            );
            let mut accepting = gate.accepting.lock();
            if let Some(tls) = options.tls.as_ref().filter(|tls| tls.has_files())
                && gate.shared.node.certificates().add(tls.clone())
            {
                let node = gate.shared.node.clone();
                accepting.push(tokio::spawn(async move {
                    node.certificates().follow_files().await;
                }));
            }
            let options = Arc::new(listener.options);
            match listener.accepting {
                Accepting::Tcp(sockets) => accepting.extend(sockets.into_iter().map(|socket| {
                    tokio::spawn(accept(gate.shared.clone(), socket, options.clone()))
                })),
                Accepting::Custom(acceptor) => {
                    let accept = accept_custom(gate.shared.clone(), acceptor, options);
                    accepting.push(tokio::spawn(accept));
                }
            }
        }
        Ok(addresses)
    }
}

impl Gate {
    /// Creates a gate without listeners; on the runtime of its connections. With the way to the
    /// other gates of its cluster clients can return on any of them.
    pub(crate) fn new(
        config: GateConfig,
        dispatch: Arc<Dispatch>,
        dictionary: Dictionary,
        metrics: Arc<Metrics>,
        node: Handle,
        others: Option<(NodeCaller, &NodeServices)>,
    ) -> Arc<Self> {
        let tunnels = others
            .as_ref()
            .map(|(caller, _)| TunnelClient::new(caller.clone()));
        let shared = Shared::new(config, dispatch, dictionary, metrics, node, tunnels);
        if let (Some((_, services)), Some(tunnels)) = (others, &shared.tunnels) {
            let (caller, inboxes) = (tunnels.caller.clone(), tunnels.inboxes.clone());
            let service = TunnelService::new(&shared, caller, inboxes);
            services.insert(wire::SERVICE, Arc::new(service));
            let service = MigrationService::new(&shared);
            services.insert("Gate", Arc::new(service));
        }
        Arc::new(Self {
            accepting: Mutex::new(vec![tokio::spawn(memory_pressure::run(Arc::downgrade(
                &shared,
            )))]),
            shared,
        })
    }

    /// The limits of clients, which may change at any time.
    pub(crate) fn limits(&self) -> &Arc<LiveLimits> {
        &self.shared.limits
    }

    /// The routes of requests that have timed out lately.
    #[cfg(feature = "admin")]
    pub(crate) fn timed_out(&self) -> &Arc<TimedOut> {
        &self.shared.timed_out
    }

    /// Moves sessions that can be resumed to other gates, for as long as it is polled.
    pub(crate) async fn migrate_sessions(&self) {
        migrate_all(&self.shared).await;
    }

    /// How many sessions of a gate that drains have not moved, by what keeps them.
    pub(crate) fn staying(&self) -> Staying {
        staying(&self.shared)
    }

    /// Stops accepting, and waits until the addresses are free.
    pub(crate) async fn close_listeners(&self) {
        self.shared.migrations.set_listening(false);
        let accepting = std::mem::take(&mut *self.accepting.lock());
        // All at once: this future may be dropped while it waits.
        accepting.iter().for_each(JoinHandle::abort);
        for task in accepting {
            // The result is the error of an aborted task.
            let _ = task.await;
        }
    }

    /// Asks every connection to drain and close. A second call ends the drain.
    pub(crate) fn close_sessions(&self) {
        for session in self.shared.node.sessions().list_local() {
            session.sink().close(CloseReason::Shutdown);
        }
    }

    /// Waits until no session of a connection is left.
    pub(crate) async fn sessions_closed(&self) {
        loop {
            let notified = self.shared.closed.notified();
            if self.shared.node.sessions().local_count() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Waits until no socket is left either, at most for twice the flush timeout.
    pub(crate) async fn connections_gone(&self) {
        let gone = async {
            loop {
                let notified = self.shared.closed.notified();
                if self.shared.connections.load(Ordering::Acquire) == 0 {
                    return;
                }
                notified.await;
            }
        };
        // A connection that is left after that has had its time to flush and to linger.
        let _ = timeout(2 * FLUSH_TIMEOUT, gone).await;
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("config", &self.shared.config)
            .field("dispatch", &self.shared.dispatch)
            .finish_non_exhaustive()
    }
}
