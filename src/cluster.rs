//! Several nodes as one: who is in the cluster, and how they learn of each other.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    net::TcpSocket,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};
use tracing::{error, info, warn};

use crate::{
    dispatch::Dispatch,
    error::{Error, Result, code},
    handle::Handle,
    member::{Info, Member},
    metrics::ClusterMetrics,
    socket,
};

mod backoff;
mod balance;
mod calls;
mod channel;
mod config;
mod ended;
mod forward;
mod go;
mod link;
mod membership;
mod peer;
mod peers;
mod proto;
mod remote;
mod serve;
mod vigil;

pub use self::{balance::Balance, config::ClusterTls};
use self::{
    config::ConfigureServer,
    go::plane::Plane,
    membership::{
        broadcaster::Announcer,
        client::{self, Masters},
        registration::Standing,
        registry::{Registry, Rhythm},
        service::{DataPlane, Guard, MasterService, MemberService},
        state::ClusterState,
        table::Members,
    },
    proto::{master_server::MasterServer, member_server::MemberServer},
};
pub(crate) use self::{config::Settings, peers::Peers};

/// How many connections the system keeps waiting between two accepts.
const BACKLOG: u32 = 1024;

/// After so much silence the system asks whether the other end of a connection is still there:
/// machines that are gone say no goodbye.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// This node's place in its cluster. Dropping it stops everything without a goodbye.
pub(crate) struct Cluster {
    core: Arc<ClusterState>,
    prepared: Option<Prepared>,
    masters: Vec<String>,
    rhythm: Rhythm,
    retry: Duration,
    data: Option<peers::Options>,
    /// The calls to the master, or as master the watch over the members.
    attendance: Option<JoinHandle<()>>,
    server: Option<JoinHandle<()>>,
    stop_server: watch::Sender<bool>,
}

/// What becomes the server.
struct Prepared {
    socket: TcpSocket,
    server: Server,
    configure: Option<ConfigureServer>,
}

impl Cluster {
    /// Takes this node's address, without listening yet: a peer that comes too early is refused,
    /// not kept waiting.
    ///
    /// # Errors
    /// Names what is wrong: the address, a file of the TLS options, the token.
    pub(crate) async fn bind(
        mut settings: Settings,
        services: Vec<String>,
        heartbeat: Duration,
        handle: &Handle,
    ) -> Result<Self> {
        let (dialer, tls) = settings.security()?;
        let listen = settings.listen.take().unwrap_or_default();
        let address = settings.advertise.take().unwrap_or_else(|| listen.clone());
        let wrong = |error: io::Error| {
            Error::new(
                code::UNAVAILABLE,
                format!("cluster.listen: cannot listen on {listen}: {error}"),
            )
            .with_source(error)
        };
        let socket = socket::take(&listen).await.map_err(wrong)?;
        let local = socket.local_addr()?;
        if !local.ip().is_loopback() && tls.is_none() && dialer.credentials.0.is_none() {
            warn!(%local, "ANYBODY WHO REACHES THIS ADDRESS CAN JOIN THE CLUSTER: set a cluster token or TLS");
        }

        let own = Member::new(Info {
            label: settings.label,
            address: with_port(address, local),
            services,
            metadata: settings.metadata,
            incarnation: now_in_microseconds(),
            link: true,
        });
        let (dialer, metrics) = (Arc::new(dialer), Arc::new(ClusterMetrics::new()));
        let rhythm = Rhythm::new(settings.heartbeat.unwrap_or(heartbeat));
        let registry = settings
            .master
            .then(|| Mutex::new(Registry::new(own.clone(), rhythm, Instant::now())));
        handle.enter(own.clone());
        for callback in settings.on_joined {
            handle.on_member_joined(move |member| callback(member));
        }
        for callback in settings.on_left {
            handle.on_member_left(move |member| callback(member));
        }
        let core = ClusterState {
            members: RwLock::new(Members::new(own.address())),
            own,
            handle: handle.clone(),
            announcer: Announcer::new(dialer.clone(), metrics.clone()),
            dialer,
            metrics,
            order: Mutex::new(()),
            registry,
            data: RwLock::new(None),
            on_unregister: settings.on_unregister,
            master: Mutex::new(None),
        };
        Ok(Self {
            core: Arc::new(core),
            prepared: Some(Prepared {
                socket,
                server: server(tls)?,
                configure: settings.configure_server,
            }),
            masters: settings.masters,
            rhythm,
            retry: settings.retry_interval.unwrap_or(Duration::from_secs(3)),
            data: Some(settings.data),
            attendance: None,
            server: None,
            stop_server: watch::Sender::new(false),
        })
    }

    /// What carries messages between this node and others.
    pub(crate) fn peers(&mut self, dispatch: &Arc<Dispatch>) -> Arc<Peers> {
        let core = &self.core;
        Peers::new(
            &core.own,
            core.dialer.clone(),
            dispatch.clone(),
            core.handle.clone(),
            self.data.take().unwrap_or_default(),
        )
    }

    /// Lets other nodes call this one.
    ///
    /// # Errors
    /// Somebody else listens on the address by now.
    pub(crate) fn serve(&mut self, peers: &Arc<Peers>) -> Result {
        let Some(Prepared {
            socket,
            server,
            configure,
        }) = self.prepared.take()
        else {
            return Ok(());
        };
        let core = self.core.clone();
        let listener = socket.listen(BACKLOG).map_err(|error| {
            Error::new(
                code::UNAVAILABLE,
                format!("cannot listen on {}: {error}", core.own.address()),
            )
            .with_source(error)
        })?;
        let data: Arc<dyn DataPlane> = Arc::new(Plane(peers.clone()));
        *core.data.write() = Some(data.clone());
        let guard = Guard {
            credentials: core.dialer.credentials.clone(),
            metrics: core.metrics.clone(),
        };
        let mut server = configure.map_or(server.clone(), |configure| configure(server));
        let member = MemberServer::with_interceptor(
            MemberService {
                core: core.clone(),
                data,
            },
            guard.clone(),
        );
        let link = InterceptedService::new(link::inlet::Service::new(peers), guard.clone());
        let master = core
            .registry
            .is_some()
            .then(|| MasterServer::with_interceptor(MasterService(core.clone()), guard));
        let router = server
            .add_service(member)
            .add_service(link)
            .add_optional_service(master);
        let mut stop = self.stop_server.subscribe();
        let stopped = async move {
            // A sender that is gone has stopped too.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let incoming = TcpIncoming::from(listener)
            .with_nodelay(Some(true))
            .with_keepalive(Some(TCP_KEEPALIVE));
        self.server = Some(tokio::spawn(async move {
            if let Err(problem) = router.serve_with_incoming_shutdown(incoming, stopped).await {
                error!(%problem, "other nodes cannot call this one any more");
            }
        }));
        info!(
            address = core.own.address(),
            master = core.registry.is_some(),
            "serving other nodes"
        );
        Ok(())
    }

    /// Joins the master's cluster, however long that takes; as master, begins to watch the members.
    ///
    /// # Errors
    /// The master asks for another token, or the node is asked to stop meanwhile.
    pub(crate) async fn join(&mut self) -> Result {
        if self.core.registry.is_some() {
            self.attendance = Some(tokio::spawn(self.core.clone().watch()));
            return Ok(());
        }
        let (joined, outcome) = oneshot::channel();
        let standing = Standing::new(self.rhythm, self.retry, Instant::now());
        let masters = Masters::new(std::mem::take(&mut self.masters));
        self.attendance = Some(tokio::spawn(client::run(
            self.core.clone(),
            masters,
            standing,
            joined,
        )));
        let gone = || {
            Error::new(
                code::UNAVAILABLE,
                "asked to stop before the master let this node join",
            )
        };
        tokio::select! {
            outcome = outcome => outcome.unwrap_or_else(|_| Err(gone())),
            () = self.core.handle.shutdown_requested() => Err(gone()),
        }
    }

    /// Leaves the cluster: nobody sends new sessions here any more. What is under way goes on. At
    /// most a few seconds.
    pub(crate) async fn leave(&mut self) {
        let Some(attendance) = self.attendance.take() else {
            return;
        };
        attendance.abort();
        // It ends by being aborted.
        let _ = attendance.await;
        let master = self.core.master.lock().take();
        if let Some(master) = master {
            client::leave(&self.core, master).await;
        }
    }

    /// Stops serving other nodes, when the calls under way are done or the time is up.
    pub(crate) async fn stop(&mut self, within: Duration) {
        self.stop_server.send_replace(true);
        self.core.announcer.stop();
        if let Some(mut server) = self.server.take()
            && timeout(within, &mut server).await.is_err()
        {
            server.abort();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.core.announcer.stop();
        for task in [&self.attendance, &self.server].into_iter().flatten() {
            task.abort();
        }
    }
}

/// The address as others call it: port 0 stands for the one the system chose.
fn with_port(address: String, local: SocketAddr) -> String {
    match address.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", local.port()),
        None => address,
    }
}

fn server(tls: Option<ServerTlsConfig>) -> Result<Server> {
    let server = Server::builder()
        .initial_stream_window_size(link::STREAM_WINDOW)
        .initial_connection_window_size(link::CONNECTION_WINDOW);
    let Some(tls) = tls else { return Ok(server) };
    server.tls_config(tls).map_err(|error| {
        Error::new(
            code::BAD_REQUEST,
            format!("cluster.tls: certificate, key or authority: {error:?}"),
        )
    })
}

/// A later run of a node has a larger one, as long as its clock is not set back by more than it
/// takes to start.
fn now_in_microseconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
        .max(1)
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("own", &self.core.own)
            .field("members", &self.core.members.read().list())
            .finish_non_exhaustive()
    }
}
