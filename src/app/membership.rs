//! The options that make a node one of several.

use std::{sync::Arc, time::Duration};

use tonic::transport::{Endpoint, Server};

use super::App;
use crate::{
    cluster::{Balance, ClusterTls},
    error::Result,
    member::Member,
    session::Session,
};

/// A node in a cluster: with a [`service_addr`](App::service_addr), and either
/// [`master`](App::master) or an [`advertise_addr`](App::advertise_addr). Without them it is on its
/// own, and no other node can call it.
///
/// ```no_run
/// # use nano::{App, Result};
/// # async fn nodes() -> Result {
/// App::new().service_addr("10.0.0.1:34567").master().cluster_token("swordfish").start().await?;
/// App::new().service_addr("10.0.0.2:34580").advertise_addr("10.0.0.1:34567").label("chat").cluster_token("swordfish").start().await?;
/// # Ok(())
/// # }
/// ```
impl App {
    /// Where the other nodes reach this one, such as `10.0.0.2:34580`; it listens there too, unless
    /// [`service_listen`](App::service_listen) says otherwise. With port 0 the system chooses one.
    #[must_use]
    pub fn service_addr(mut self, address: impl Into<String>) -> Self {
        self.config.cluster.service_addr = Some(address.into());
        self
    }

    /// Where to listen for other nodes, if that is not where they reach it: in a container, or
    /// behind a translation of addresses.
    #[must_use]
    pub fn service_listen(mut self, address: impl Into<String>) -> Self {
        self.config.cluster.service_listen = Some(address.into());
        self
    }

    /// Makes this node the master, which keeps the list of members and tells each of every other.
    /// Exactly one node of a cluster is it.
    #[must_use]
    pub fn master(mut self) -> Self {
        self.config.cluster.master = true;
        self
    }

    /// Joins the cluster of the master at this address. Named several times, the addresses are
    /// tried in turn: for a master that may be started in one of several places.
    /// [`start`](App::start) waits for the master as long as it takes, and logs that it does.
    #[must_use]
    pub fn advertise_addr(mut self, master: impl Into<String>) -> Self {
        self.config.cluster.masters.push(master.into());
        self
    }

    /// Which of several members that have a service serves a session. Any unless set, as in nano.
    #[must_use]
    pub fn balance(mut self, policy: Balance) -> Self {
        self.config.cluster.data.balance = policy;
        self
    }

    /// Chooses the member that serves a session, before the balancing policy: called with the
    /// session, the name of the service and the members that have it and can be reached, at least
    /// one, sorted by address. `Ok(None)` leaves it to the policy; the session is bound to whatever
    /// is chosen. An error ends the message, and so does a panic.
    ///
    /// Called on threads that do the network's work, and on schedulers: it must not block.
    #[must_use]
    pub fn remote_service_route(
        mut self,
        choose: impl Fn(&Session, &str, &[Member]) -> Result<Option<Member>> + Send + Sync + 'static,
    ) -> Self {
        self.config.cluster.data.route_fn = Some(Arc::new(choose));
        self
    }

    /// Lets nodes of Go nano reach internal services. Their messages do not say whether a client or
    /// a node sent them, so the clients of a Go gate then reach them too.
    #[must_use]
    pub fn trust_go_nodes(mut self) -> Self {
        self.config.cluster.data.trust_go = true;
        self
    }

    /// How long a gate and another node may be cut off from each other, while both are members,
    /// before the sessions that they share end: on the node with their close callbacks; on the gate
    /// the session goes on and its next message is balanced anew. 10 s unless set.
    #[must_use]
    pub fn cut_off_after(mut self, limit: Duration) -> Self {
        self.config.cluster.data.grace = limit;
        self
    }

    /// How long to wait before the next attempt to join. 3 s unless set.
    #[must_use]
    pub fn retry_interval(mut self, interval: Duration) -> Self {
        self.config.cluster.retry_interval = Some(interval);
        self
    }

    /// How often nodes of Go nano call their master, which removes them after four intervals of
    /// silence. Nodes of this crate call as often, but at least once a second, and are removed
    /// after four missed calls as well. All nodes of a cluster must agree on it. Unless set it is
    /// the [`heartbeat`](App::heartbeat) of clients, as in nano.
    #[must_use]
    pub fn cluster_heartbeat(mut self, interval: Duration) -> Self {
        self.config.cluster.heartbeat = Some(interval);
        self
    }

    /// A label that the other members see: [`Member::label`].
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.config.cluster.label = label.into();
        self
    }

    /// Something else that the other members see: [`Member::metadata`]. Replaces an earlier value
    /// of the key.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config
            .cluster
            .metadata
            .insert(key.into(), value.into());
        self
    }

    /// A secret of visible ASCII characters that all nodes of the cluster share, and that keeps
    /// others out. Unless set it is taken from the environment variable `NANO_CLUSTER_TOKEN`. It
    /// travels with every call: across networks others can listen to, use
    /// [`cluster_tls`](App::cluster_tls) as well. Nodes of Go nano show none, so they cannot join a
    /// master that asks for one.
    #[must_use]
    pub fn cluster_token(mut self, token: impl Into<String>) -> Self {
        self.config.cluster.token = Some(token.into());
        self
    }

    /// Encrypts what nodes say to each other, and lets them know each other by certificate. All
    /// nodes of the cluster must, so none of Go nano.
    #[must_use]
    pub fn cluster_tls(mut self, tls: ClusterTls) -> Self {
        self.config.cluster.tls = Some(tls);
        self
    }

    /// Calls `callback` whenever a member has joined, also for each that was there when this node
    /// joined. One that is started again, or was taken for dead and is not, leaves and joins. Runs
    /// on the node's default scheduler, in the order things happened.
    #[must_use]
    pub fn on_member_joined(mut self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.config.cluster.on_joined.push(Arc::new(callback));
        self
    }

    /// Calls `callback` whenever a member has left, in order or because the master removed it; as
    /// [`on_member_joined`](App::on_member_joined).
    #[must_use]
    pub fn on_member_left(mut self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.config.cluster.on_left.push(Arc::new(callback));
        self
    }

    /// On the master, calls `callback` before a member is removed, whether it leaves or is silent,
    /// while the other members still have it in their tables. Runs on the node's default scheduler;
    /// the removal waits for it, for 3 s at most. Elsewhere it has no effect.
    #[must_use]
    pub fn on_unregister(mut self, callback: impl Fn(&Member) + Send + Sync + 'static) -> Self {
        self.config.cluster.on_unregister = Some(Arc::new(callback));
        self
    }

    /// Changes the settings of connections to other nodes: of each, once.
    #[must_use]
    pub fn grpc_endpoint(
        mut self,
        configure: impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static,
    ) -> Self {
        self.config.cluster.configure_endpoint = Some(Arc::new(configure));
        self
    }

    /// Changes the settings of the server that other nodes call.
    #[must_use]
    pub fn grpc_server(
        mut self,
        configure: impl FnOnce(Server) -> Server + Send + Sync + 'static,
    ) -> Self {
        self.config.cluster.configure_server = Some(Box::new(configure));
        self
    }
}
