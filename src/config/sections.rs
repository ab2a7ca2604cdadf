//! The keys: each with its documentation, type and default.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    names::{BalanceName, RateAction},
    ratio::Ratio,
    section::{Key, Section, section},
    setting::{Secret, Setting, Size, Unset},
    value::Value,
};
use crate::{gate::SlowClient, handle::Unique, log_format::LogFormat, net::network::Network};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

section! {
    /// The node itself.
    NodeSection {
        /// The version of the application, for operators and other members. At most 64 bytes.
        version: Unset<String> = Unset::like("\"1.4.2\""),
        /// Networks whose clients are refused, beside addresses. Taken by a reload.
        deny: Vec<Network> = Vec::new(),
        /// What the program logs, such as "info,nano::gate=debug". Taken by a reload.
        log: String = "info".to_owned(),
        /// How it writes what it logs: text has colours on a terminal, json is one object on each
        /// line.
        log_format: LogFormat = LogFormat::Text,
        /// Threads for clients, links, pipelines and handshake hooks; 0 uses the application's
        /// runtime. One for every two cores unless set.
        io_threads: Unset<usize> = Unset::like("1"),
        /// Threads for handlers, timers and callbacks; 0 uses the application's runtime. One for
        /// each core, at least 2, unless set.
        scheduler_threads: Unset<usize> = Unset::like("2"),
        /// How often condition timers look, at least 1 ms.
        timer_precision: Duration = seconds(1),
        /// Whether clients may read the text of foreign errors.
        expose_errors: bool = false,
        /// Whether failed requests stay without an answer, as in Go nano.
        suppress_error_replies: bool = false,
        /// What a login does while its user has another session in the cluster: replace ends that
        /// one, reject refuses the login. The same on all nodes.
        unique_users: Option<Unique> = None,
    }
}

section! {
    /// Bounds of clients, schedulers and channels. Taken by a reload.
    LimitsSection {
        /// The longest packet body a client may send. At most 16777215 bytes. After a reload for
        /// new connections.
        max_packet: Size = Size(64 << 10),
        /// How many clients may be connected; further connections are refused.
        max_connections: Option<usize> = None,
        /// How many connections one client address may have. An IPv6 client counts by the first 64
        /// bits.
        max_connections_per_address: Option<usize> = None,
        /// How many requests of one client may be in flight, and how many of its messages may wait
        /// for a handler.
        max_in_flight: usize = 1024,
        /// How many messages a second one client may send over time.
        rate_limit: Option<usize> = None,
        /// How many messages one client may send at once. The rate limit unless set.
        rate_limit_burst: Unset<usize> = Unset::like("100"),
        /// What happens to a client that exceeds the rate limit: it waits, or is kicked.
        rate_limit_action: RateAction = RateAction::Throttle,
        /// How many bytes may wait in one client's send queue.
        send_queue_bytes: Size = Size(4 << 20),
        /// How many messages may wait in one client's send queue.
        send_queue_messages: usize = 65536,
        /// How many bytes are kept for a client that may return until it acknowledges them, and may
        /// wait for it while it is away. As many as its send queue takes unless set.
        unacknowledged_bytes: Unset<Size> = Unset::like("\"1MiB\""),
        /// How many messages are.
        unacknowledged_messages: Unset<usize> = Unset::like("1000"),
        /// What happens to a client whose send queue is full.
        slow_client: SlowClient = SlowClient::Disconnect,
        /// How many bytes may be queued for all clients and other nodes together; at the bound the
        /// slowest clients are disconnected. A quarter of the memory there is unless set.
        memory: Unset<Option<Size>> = Unset::like("\"256MiB\""),
        /// How many tasks may wait on one scheduler. Those that wait stay.
        scheduler_capacity: usize = 16384,
        /// How many channels this node may own at a time, with members or a history. Those that
        /// exist stay.
        max_channels: usize = 100000,
        /// How many channels each session of this gate may be in. Those it is in stay.
        max_channels_per_session: usize = 1000,
    }
}

section! {
    /// Heartbeats and deadlines. Taken by a reload, but for heartbeat, request and resume_window.
    TimeoutsSection {
        /// The interval of clients' heartbeats. A client silent for two intervals is disconnected.
        heartbeat: Option<Duration> = Some(seconds(30)),
        /// How long a client may take from the connection to the acknowledged handshake.
        handshake: Duration = seconds(10),
        /// How long a client's socket may be idle before the system probes it, and the time between
        /// probes. At least 1 s.
        tcp_keepalive: Option<Duration> = Some(seconds(30)),
        /// How long the application's check of a handshake may take.
        handshake_check: Duration = seconds(5),
        /// How long a session may stay without a user id after its handshake.
        login: Option<Duration> = None,
        /// How long a request may wait for its answer.
        request: Option<Duration> = Some(seconds(30)),
        /// How long a shutdown may take. Half of it is for requests in flight.
        shutdown: Duration = seconds(10),
        /// How long SIGTERM lets players leave by themselves before the shutdown.
        drain: Option<Duration> = None,
        /// How long a node that drains, or that SIGTERM stops, keeps accepting clients after it
        /// reports not ready: about two intervals of a load balancer's probe.
        shutdown_delay: Option<Duration> = None,
        /// The window over which clients of a stopping node spread their return.
        reconnect_window: Option<Duration> = Some(seconds(5)),
        /// How long a client that asks for it may stay away and return to its session.
        resume_window: Option<Duration> = Some(seconds(60)),
    }
}

section! {
    /// The node's part in a cluster. A node that neither is the master nor joins one stands alone.
    ClusterSection {
        /// Whether this node keeps the member table, or is one of several that may.
        master: bool = false,
        /// The addresses of all masters, if this is one of several: three or five.
        masters: Vec<String> = Vec::new(),
        /// The addresses of the masters, tried in turn.
        join: Vec<String> = Vec::new(),
        /// The address to listen on for other nodes. Needs master or join, as advertise does.
        listen: Unset<String> = Unset::like("\"0.0.0.0:34580\""),
        /// The address other nodes dial. The one of listen unless set.
        advertise: Unset<String> = Unset::like("\"10.0.0.2:34580\""),
        /// A name that other members see.
        label: String = String::new(),
        /// Keys and values that other members see.
        metadata: BTreeMap<String, String> = BTreeMap::new(),
        /// How a member is chosen for a session when several have the service.
        balance: BalanceName = BalanceName::Random,
        /// The secret all nodes share: visible ASCII characters.
        token: Unset<Secret> = Unset::like("\"...\""),
        /// A file with the token, instead of the key above.
        token_file: Unset<PathBuf> = Unset::like("\"/run/secrets/cluster-token\""),
        /// This node's certificate chain for links, a PEM file. TLS needs three files: this, its
        /// key, and the authority. Read again by a reload.
        tls_certificate: Unset<PathBuf> = Unset::like("\"/etc/nano/node.pem\""),
        /// The certificate's private key, a PEM file.
        tls_key: Unset<PathBuf> = Unset::like("\"/etc/nano/node.key\""),
        /// The certificates of the authorities that sign the nodes' certificates, a PEM file.
        tls_authority: Unset<PathBuf> = Unset::like("\"/etc/nano/ca.pem\""),
        /// The name all certificates are issued for. The host of the dialled address unless set.
        tls_server_name: Unset<String> = Unset::like("\"nano\""),
        /// Whether callers need a certificate of the authority.
        tls_client_certificates: bool = true,
        /// Whether nodes of Go nano reach internal services.
        trust_go_nodes: bool = false,
        /// How long a gate and a backend may be unreachable for each other before the sessions they
        /// share end.
        partition_grace: Duration = seconds(10),
        /// How long a link to another node may be open without need before it is closed.
        link_idle_timeout: Option<Duration> = Some(seconds(60)),
        /// The pause between two attempts to join.
        retry_interval: Duration = seconds(3),
        /// The heartbeat interval between members and master. The clients' unless set.
        heartbeat: Unset<Duration> = Unset::like("\"30s\""),
        /// How many connections of other nodes may be open.
        max_connections: usize = 16384,
        /// How many connections one address may have at the cluster's port.
        max_connections_per_address: usize = 4096,
        /// How many connections at the cluster's port may be without an authenticated call.
        max_unauthenticated_connections: usize = 512,
        /// How long a connection may take until its first authenticated call.
        authentication_timeout: Duration = seconds(10),
    }
}

section! {
    /// Traces of messages. Taken by a reload.
    TracesSection {
        /// The part of traces that this node samples as a gate.
        ratio: Ratio = Ratio(0.0),
        /// Whether the sampled flag of a client's own trace decides, instead of the ratio.
        follow_parent: bool = false,
    }
}

section! {
    /// The admin server: health, metrics, a JSON API and the dashboard.
    AdminSection {
        /// The address to listen on. No admin server unless set.
        address: Unset<String> = Unset::like("\"127.0.0.1:9470\""),
        /// The secret that actions need, and all requests from other machines.
        token: Unset<Secret> = Unset::like("\"...\""),
        /// A file with the token, instead of the key above.
        token_file: Unset<PathBuf> = Unset::like("\"/run/secrets/admin-token\""),
        /// Names by which browsers reach the server, beside addresses and localhost.
        hosts: Vec<String> = Vec::new(),
    }
}

section! {
    /// An address that clients connect to; one table for each.
    ListenerSection {
        /// The address to listen on; ":3250" is all addresses of the machine.
        address: Unset<String> = Unset::like("\"0.0.0.0:3250\""),
        /// A name for checks of handshakes. The address unless set.
        name: Unset<String> = Unset::like("\"public\""),
        /// The path of a WebSocket. TCP unless set.
        websocket: Unset<String> = Unset::like("\"/nano\""),
        /// A certificate chain for TLS, a PEM file; needs tls_key. Read again when it has changed,
        /// and by a reload.
        tls_certificate: Unset<PathBuf> = Unset::like("\"/etc/nano/chain.pem\""),
        /// The certificate's private key, a PEM file.
        tls_key: Unset<PathBuf> = Unset::like("\"/etc/nano/key.pem\""),
        /// Authorities whose certificates clients must show, a PEM file.
        client_authorities: Unset<PathBuf> = Unset::like("\"/etc/nano/clients.pem\""),
        /// Networks of proxies that begin with a header of the PROXY protocol.
        proxy_protocol: Vec<Network> = Vec::new(),
        /// Networks of proxies whose X-Forwarded-For or Forwarded names a WebSocket's client.
        forwarded_for: Vec<Network> = Vec::new(),
        /// Subprotocols of the WebSocket, the preferred one first.
        subprotocols: Vec<String> = Vec::new(),
        /// Directories served beside the WebSocket, by path.
        files: BTreeMap<String, String> = BTreeMap::new(),
    }
}
