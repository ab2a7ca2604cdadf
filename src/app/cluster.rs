//! How a node takes part in a cluster.

use std::{fmt, sync::Arc, time::Duration};

use tonic::transport::{Endpoint, Server};

use crate::{
    cluster::{Balance, ClusterTls, Settings},
    error::Result,
    member::Member,
    session::Session,
};

/// A node's part in a cluster: its role, its addresses, and how it treats other members.
///
/// [`listen`](Cluster::listen) is required; everything else has a default. An invalid combination
/// is an error of [`App::start`](crate::App::start) that names the option.
///
/// ```no_run
/// # use nano::{App, Cluster, Result};
/// # async fn nodes() -> Result {
/// App::new()
///     .cluster(Cluster::master().listen("10.0.0.1:34567").token("swordfish"))
///     .start()
///     .await?;
/// App::new()
///     .cluster(
///         Cluster::join(["10.0.0.1:34567"])
///             .listen("10.0.0.2:34580")
///             .label("chat")
///             .token("swordfish"),
///     )
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "has no effect until it is given to `App::cluster`"]
pub struct Cluster {
    pub(super) settings: Settings,
}

impl Cluster {
    /// A node that is the cluster's master: it keeps the member table and announces every change.
    /// A cluster has one, or several that each name the others with [`masters`](Cluster::masters).
    #[doc(alias = "WithMaster")]
    pub fn master() -> Self {
        Self {
            settings: Settings {
                master: true,
                ..Settings::default()
            },
        }
    }

    /// A node that joins the master at one of these addresses, tried in turn: of several masters, or
    /// of a master that may be started in one of several places.
    ///
    /// [`App::start`](crate::App::start) waits until the master has accepted this node, for as long
    /// as that takes, and logs each failed attempt.
    #[doc(alias = "WithAdvertiseAddr")]
    pub fn join<A: Into<String>>(masters: impl IntoIterator<Item = A>) -> Self {
        Self {
            settings: Settings {
                masters: masters.into_iter().map(Into::into).collect(),
                ..Settings::default()
            },
        }
    }

    /// Makes this master one of several, three or five, any minority of which may die. They choose the
    /// one that leads: it keeps the member table, and the others are members that may take its place.
    ///
    /// Names the advertised addresses of all masters or of all but this one, and is given to masters
    /// only. All masters must have the same ones: they refuse each other otherwise, and log it. At most
    /// seven. Without a majority no member joins or is evicted, and traffic goes on; the start of a
    /// master waits for the majority, too, and logs which masters do not answer.
    pub fn masters<A: Into<String>>(mut self, masters: impl IntoIterator<Item = A>) -> Self {
        let masters: Vec<_> = masters.into_iter().map(Into::into).collect();
        match self.settings.master {
            true => self.settings.masters.extend(masters),
            false => self.settings.misplaced_masters |= !masters.is_empty(),
        }
        self
    }

    /// The address this node listens on for other nodes, such as `10.0.0.2:34580` or
    /// `0.0.0.0:34580`. With port 0 the system chooses one. Required.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.settings.listen = Some(address.into());
        self
    }

    /// The address other nodes dial to reach this one; the [`listen`](Cluster::listen) address
    /// unless set. Set it where the two differ: in a container, behind NAT, or when listening on
    /// `0.0.0.0`, which cannot be dialled.
    #[doc(alias = "WithServiceAddr")]
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.settings.advertise = Some(address.into());
        self
    }

    /// How a member is chosen for a session when several have the service. [`Balance::Random`]
    /// unless set, as in nano.
    pub fn balance(mut self, policy: Balance) -> Self {
        self.settings.data.balance = policy;
        self
    }

    /// Chooses the member for a session before the [balance policy](Cluster::balance) does.
    ///
    /// `choose` gets the session, the service, and the available members that have it: at least
    /// one, sorted by address. `Ok(None)` leaves the choice to the policy. The session is bound to
    /// the chosen member. An error fails the message; a panic is counted and fails it as well.
    ///
    /// Runs on I/O threads and on schedulers: it must not block.
    #[doc(alias = "WithCustomerRemoteServiceRoute")]
    pub fn select_member(
        mut self,
        choose: impl Fn(&Session, &str, &[Member]) -> Result<Option<Member>> + Send + Sync + 'static,
    ) -> Self {
        self.settings.data.route_fn = Some(Arc::new(choose));
        self
    }

    /// Lets Go nano nodes reach internal services.
    ///
    /// Their frames do not tell a client's message from a node's, so clients of a Go gate then
    /// reach internal services too.
    pub fn trust_go_nodes(mut self) -> Self {
        self.settings.data.trust_unlinked = true;
        self
    }

    /// How long a gate and a backend may be unreachable for each other, while both are members,
    /// before the sessions they share end. 10 s unless set.
    ///
    /// The backend then runs the close callbacks of those sessions. The gate keeps the sessions and
    /// balances their next messages anew.
    pub fn partition_grace(mut self, grace: Duration) -> Self {
        self.settings.data.grace = grace;
        self
    }

    /// How long a link to another node may be open without need before it is closed. 60 s unless set;
    /// `None` keeps links open.
    ///
    /// A link opens with the first message for the other node, and is needed while the nodes share a
    /// session or wait for each other. The shorter time of two nodes counts.
    pub fn link_idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.data.link_idle_timeout = timeout.into();
        self
    }

    /// The pause between two attempts to join. 3 s unless set; not zero.
    #[doc(alias = "WithRetryInterval")]
    pub fn retry_interval(mut self, interval: Duration) -> Self {
        self.settings.retry_interval = Some(interval);
        self
    }

    /// The heartbeat interval between members and master. All nodes of a cluster must agree on it.
    /// The clients' [heartbeat](crate::Timeouts::heartbeat) unless set, as in nano; not zero.
    ///
    /// The master evicts a member after four missed heartbeats. Nodes of this crate send theirs at
    /// least once a second, however long the interval is.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.settings.heartbeat = Some(interval);
        self
    }

    /// A label that other members see: [`Member::label`].
    #[doc(alias = "WithLabel")]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.settings.label = label.into();
        self
    }

    /// A key and value that other members see: [`Member::metadata`]. The last value of a key wins.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.metadata.insert(key.into(), value.into());
        self
    }

    /// The secret all nodes of the cluster share: at least one visible ASCII character. The
    /// environment variable `NANO_CLUSTER_TOKEN` unless set.
    ///
    /// The token travels with every call, so use [`tls`](Cluster::tls) as well where others can
    /// listen. Go nano nodes send no token and cannot join a master that requires one.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.settings.token = Some(token.into());
        self
    }

    /// Encrypts links and authenticates nodes by certificate. All nodes of a cluster need it, which
    /// excludes Go nano nodes.
    pub fn tls(mut self, tls: ClusterTls) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// How many connections of other nodes may be open at this node's cluster port. 16,384 unless
    /// set; not zero.
    ///
    /// A member opens about four to each other member. Beyond the bound a connection is refused,
    /// unless one without an authenticated call makes room.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.settings.connections.total = connections;
        self
    }

    /// How many connections one IP address may have at this node's cluster port. 4,096 unless set;
    /// not zero.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.settings.connections.per_address = connections;
        self
    }

    /// How many connections at this node's cluster port may be without an authenticated call. 512
    /// unless set; not zero.
    ///
    /// Beyond the bound the oldest of them is closed, of the address that has most: a flood of
    /// silent connections keeps no member out.
    pub fn max_unauthenticated_connections(mut self, connections: usize) -> Self {
        self.settings.connections.unauthenticated = connections;
        self
    }

    /// How long a connection to this node's cluster port may take until its first call with the
    /// cluster's [token](Cluster::token), the TLS handshake included; without a token, until its
    /// first call. It is closed then. 10 s unless set; not zero.
    pub fn authentication_timeout(mut self, timeout: Duration) -> Self {
        self.settings.authentication_timeout = Some(timeout);
        self
    }

    /// Adds a callback for every member that joins, including those already there when this node
    /// joins. A member that restarts, or returns after an eviction, leaves and joins again.
    ///
    /// Callbacks run on the node's default scheduler, in the order of the changes.
    pub fn on_member_joined(mut self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.settings.on_joined.push(Arc::new(callback));
        self
    }

    /// Adds a callback for every member that leaves or is evicted; otherwise as
    /// [`on_member_joined`](Cluster::on_member_joined).
    pub fn on_member_left(mut self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.settings.on_left.push(Arc::new(callback));
        self
    }

    /// Sets the master's callback before a member is removed, while other members still have it in
    /// their tables. Without effect on other nodes.
    ///
    /// Runs on the node's default scheduler; the removal waits for it for at most 3 s.
    #[doc(alias = "WithUnregisterCallback")]
    pub fn on_unregister(mut self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.settings.on_unregister = Some(Arc::new(callback));
        self
    }

    /// Adjusts the gRPC client of each connection to another node, once per connection.
    #[doc(alias = "WithGrpcOptions")]
    pub fn grpc_endpoint(
        mut self,
        configure: impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static,
    ) -> Self {
        self.settings.configure_endpoint = Some(Arc::new(configure));
        self
    }

    /// Adjusts the gRPC server that other nodes call.
    pub fn grpc_server(
        mut self,
        configure: impl FnOnce(Server) -> Server + Send + Sync + 'static,
    ) -> Self {
        self.settings.configure_server = Some(Box::new(configure));
        self
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("master", &self.settings.master)
            .field("join", &self.settings.masters)
            .field("listen", &self.settings.listen)
            .field("advertise", &self.settings.advertise)
            .field("label", &self.settings.label)
            .finish_non_exhaustive()
    }
}
