//! One measurement: its servers and its targets.

use serde::{Deserialize, Serialize};

use super::peer::Peer;

/// Which servers take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Standalone,
    /// A master, a backend, and so many gates.
    Cluster {
        gates: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Transport {
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    pub(crate) fn is_ws(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    pub(crate) fn url(self, address: &str) -> String {
        match self {
            Self::Tcp => format!("tcp://{address}"),
            Self::Tls => format!("tls://{address}"),
            Self::Ws => format!("ws://{address}/nano"),
            Self::Wss => format!("wss://{address}/nano"),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) topology: Topology,
    pub(crate) transport: Transport,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    /// Flags of the load, beside those above.
    pub(crate) load: Vec<String>,
    /// Runs at this part of the rate Go nano reaches in a closed loop; at this many a second where
    /// there is no Go nano.
    pub(crate) open: Option<(f64, f64)>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) targets: Vec<Target>,
}

/// What our server must reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) metric: Metric,
    pub(crate) base: Base,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Metric {
    Throughput,
    Cpu,
    P99,
    /// KiB for each idle connection.
    Memory,
    /// Dropped, corrupted, refused.
    Lost,
}

/// What it is divided by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Base {
    Peer(Peer),
    /// Our own in another scenario.
    Own(String),
    Nothing,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Scenario {
    pub(crate) fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        topology: Topology,
        transport: Transport,
    ) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            topology,
            transport,
            connections: 100,
            in_flight: 1,
            load: Vec::new(),
            open: None,
            peers: vec![Peer::Nano, Peer::Go],
            targets: Vec::new(),
        }
    }

    pub(crate) fn clients(mut self, connections: usize, in_flight: usize) -> Self {
        (self.connections, self.in_flight) = (connections, in_flight);
        self
    }

    pub(crate) fn load(mut self, flags: &[&str]) -> Self {
        self.load
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    pub(crate) fn open(mut self, part: f64, otherwise: f64) -> Self {
        self.open = Some((part, otherwise));
        self
    }

    pub(crate) fn peers(mut self, peers: &[Peer]) -> Self {
        self.peers = peers.to_vec();
        self
    }

    /// More peers that take part.
    pub(crate) fn and(mut self, peers: &[Peer]) -> Self {
        self.peers.extend(peers);
        self
    }

    pub(crate) fn target(mut self, metric: Metric, base: Base, bound: Bound) -> Self {
        self.targets.push(Target {
            metric,
            base,
            bound,
        });
        self
    }

    /// Throughput and CPU time against Go nano's.
    pub(crate) fn beats_go(self, throughput: f64, cpu: f64) -> Self {
        let go = Base::Peer(Peer::Go);
        self.target(Metric::Throughput, go.clone(), Bound::AtLeast(throughput))
            .target(Metric::Cpu, go, Bound::AtMost(cpu))
    }

    pub(crate) fn near(self, limit: Peer, cpu: f64) -> Self {
        self.target(Metric::Cpu, Base::Peer(limit), Bound::AtMost(cpu))
    }

    pub(crate) fn loses_nothing(self) -> Self {
        self.target(Metric::Lost, Base::Nothing, Bound::AtMost(0.0))
    }
}
