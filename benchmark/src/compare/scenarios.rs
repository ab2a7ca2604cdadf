//! The scenarios.

use super::{
    peer::Peer,
    scenario::{
        Base,
        Bound::{AtLeast, AtMost},
        Metric, Scenario,
        Topology::{self, Cluster, Standalone},
        Transport::{self, Tcp, Tls, Ws, Wss},
    },
};
use crate::process;

/// Connections and requests in flight of each.
const GRID: [(usize, usize); 4] = [(1, 1), (100, 1), (1000, 1), (100, 8)];

/// The optional peers that speak our protocol.
const FIELD: [Peer; 3] = [Peer::Pitaya, Peer::Cherry, Peer::Pomelo];
/// Those and due, which has a protocol of its own and forwards everything.
const FORWARDING: [Peer; 4] = [Peer::Pitaya, Peer::Cherry, Peer::Pomelo, Peer::Due];
/// Those without cherry: its gates answer one request of a client at a time.
const PIPELINED: [Peer; 2] = [Peer::Pitaya, Peer::Pomelo];
/// Those without pitaya: it handles messages of one client at the same time.
const ORDERED: [Peer; 2] = [Peer::Cherry, Peer::Pomelo];

/// Files a process needs beside its connections.
const SPARE_FILES: usize = 500;
/// What each WebSocket reads through, in KiB.
const WS_READ_BUFFER: f64 = 0.5;

pub(crate) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, topology, transport, peers) in [
        (
            "echo-tcp",
            Standalone,
            Tcp,
            &[Peer::Nano, Peer::Go, Peer::Bare, Peer::Hop, Peer::Strand][..],
        ),
        ("echo-ws", Standalone, Ws, &[Peer::Nano, Peer::Go]),
        ("echo-wss", Standalone, Wss, &[Peer::Nano, Peer::Go]),
        (
            "forwarded",
            Cluster { gates: 1 },
            Tcp,
            &[Peer::Nano, Peer::Go, Peer::Stream],
        ),
    ] {
        all.extend(GRID.map(|clients| {
            let field = match (topology, clients) {
                _ if transport.is_tls() => &[][..],
                (Standalone, (_, 2..)) => &PIPELINED,
                (Standalone, _) => &FIELD,
                _ => &FORWARDING,
            };
            echo(name, topology, transport, clients)
                .peers(peers)
                .and(field)
        }));
        all.extend([50, 1000].map(|connections| json(name, topology, transport, connections)));
    }
    // Go nano has TLS on WebSockets only.
    all.push(echo("echo-tls", Standalone, Tls, (100, 1)).peers(&[Peer::Nano]));
    all.push(
        simple(
            "push-100x1",
            "a notify and the push it causes, 100 connections",
        )
        .load(&["--scenario", "push"]),
    );
    all.push(
        simple("mixed-100x4", "requests, notifies and pushes, 100 x 4")
            .clients(100, 4)
            .load(&["--scenario", "mixed"]),
    );
    // One after the other, for the second is compared with the first, and a machine's speed changes
    // within minutes.
    all.extend(
        [(100, 1), (1000, 1), (100, 8), (1000, 8)]
            .into_iter()
            .flat_map(|clients| [broadcast(clients), broadcast_through_gates(clients)]),
    );
    all.push(call("call-100x1", 1));
    all.push(call("call-100x8", 8));
    all.push(open("open-standalone", Standalone, 70_000.0));
    all.push(open("open-forwarded", Cluster { gates: 1 }, 5_000.0));
    all.push(
        simple(
            "game",
            "1,000 players in 50 rooms, 20 moves a second each, one slow and one dead client",
        )
        .clients(1000, 1)
        .load(&["--scenario", "game", "--rooms", "50", "--rate", "20"])
        .loses_nothing(),
    );
    let files = process::raise_file_limit();
    let idlers = [
        (5_000, Tcp),
        (15_000, Tcp),
        (50_000, Tcp),
        (5_000, Ws),
        (15_000, Ws),
        (50_000, Ws),
    ]
    .into_iter();
    all.extend(
        idlers
            .filter(|(connections, _)| connections + SPARE_FILES <= files)
            .map(idle),
    );
    all.extend(
        [("storm-tcp", Tcp), ("storm-ws", Ws)].map(|(name, transport)| {
            let title = format!(
                "connect, handshake, one echo, leave, 100 at a time, {}",
                called(transport)
            );
            Scenario::new(name, title, Standalone, transport)
                .load(&["--scenario", "storm"])
                .and(&FIELD)
        }),
    );
    all
}

fn simple(name: &str, title: &str) -> Scenario {
    Scenario::new(name, title, Standalone, Tcp)
}

fn called(transport: Transport) -> &'static str {
    match transport {
        Tcp => "TCP",
        Tls => "TCP with TLS",
        Ws => "WebSocket",
        Wss => "WebSocket with TLS",
    }
}

fn echo(
    prefix: &str,
    topology: Topology,
    transport: Transport,
    clients: (usize, usize),
) -> Scenario {
    let (connections, in_flight) = clients;
    let kind = if topology == Standalone {
        "echo"
    } else {
        "echo through gate and backend"
    };
    let title = format!(
        "{kind}, 64 B, {}, {connections} x {in_flight}",
        called(transport)
    );
    let scenario = Scenario::new(
        format!("{prefix}-{connections}x{in_flight}"),
        title,
        topology,
        transport,
    )
    .clients(connections, in_flight);
    match (prefix, connections, in_flight) {
        ("echo-tcp", 1, 1) => scenario.beats_go(1.15, 0.75),
        ("echo-tcp", 100, 1) => {
            let scenario = scenario.beats_go(1.3, 0.75).near(Peer::Bare, 1.2);
            scenario.near(Peer::Hop, 1.15)
        }
        ("echo-tcp", 1000, 1) => scenario.beats_go(1.3, 0.75).near(Peer::Hop, 1.15),
        ("echo-tcp", 100, 8) => {
            let scenario = scenario.beats_go(3.0, 0.25).near(Peer::Bare, 1.4);
            scenario.near(Peer::Hop, 1.4)
        }
        ("echo-ws", 100, 1) => scenario.beats_go(1.25, 0.8),
        ("forwarded", 100 | 1000, 1) => {
            scenario.beats_go(12.0, 1.0 / 14.0).near(Peer::Stream, 1.15)
        }
        ("forwarded", 100, 8) => {
            let scenario = scenario.beats_go(50.0, 1.0 / 60.0);
            scenario.near(Peer::Stream, 1.35)
        }
        ("forwarded", 1, 1) => scenario.beats_go(2.0, 0.45),
        _ => scenario,
    }
}

fn json(prefix: &str, topology: Topology, transport: Transport, connections: usize) -> Scenario {
    let title = format!(
        "1 KB of JSON, read and written, {}, {connections} x 1",
        called(transport)
    );
    let scenario = Scenario::new(
        format!("{prefix}-json-{connections}"),
        title,
        topology,
        transport,
    );
    scenario
        .clients(connections, 1)
        .load(&["--json-body", "--size", "1024"])
}

fn broadcast((sessions, in_flight): (usize, usize)) -> Scenario {
    let title = format!(
        "broadcast to {sessions} sessions of one node, {in_flight} in flight; counted are deliveries"
    );
    let scenario =
        simple(&format!("broadcast-{sessions}x{in_flight}"), &title).clients(sessions, in_flight);
    let (throughput, cpu) = if in_flight == 1 {
        (1.5, 0.6)
    } else {
        (2.5, 0.35)
    };
    let scenario = scenario
        .load(&["--scenario", "broadcast"])
        .peers(&[Peer::Nano, Peer::Go, Peer::Bare])
        .and(&FIELD)
        .beats_go(throughput, cpu)
        .loses_nothing();
    if (sessions, in_flight) == (100, 1) {
        scenario.near(Peer::Bare, 1.1)
    } else {
        scenario
    }
}

/// The optional peers whose broadcasts arrive in the order sent with so many on their way.
fn broadcasters(in_flight: usize) -> &'static [Peer] {
    if in_flight == 1 { &FIELD } else { &ORDERED }
}

fn broadcast_through_gates((sessions, in_flight): (usize, usize)) -> Scenario {
    let title = format!(
        "broadcast from a backend to {sessions} sessions on two gates, {in_flight} in flight; counted are deliveries"
    );
    let own = Base::Own(format!("broadcast-{sessions}x{in_flight}"));
    Scenario::new(
        format!("broadcast-gates-{sessions}x{in_flight}"),
        title,
        Cluster { gates: 2 },
        Tcp,
    )
    .clients(sessions, in_flight)
    .load(&["--scenario", "broadcast"])
    .and(broadcasters(in_flight))
    .beats_go(12.0, 1.0 / 14.0)
    .target(Metric::Throughput, own, AtLeast(0.9))
    .loses_nothing()
}

/// Go nano has no calls with an answer between nodes.
fn call(name: &str, in_flight: usize) -> Scenario {
    let title = format!(
        "a handler on the gate calls the backend and answers with what it says, 100 x {in_flight}"
    );
    Scenario::new(name, title, Cluster { gates: 1 }, Tcp)
        .clients(100, in_flight)
        .load(&["--route", "Caller.Echo"])
        .peers(&[Peer::Nano])
}

fn open(name: &str, topology: Topology, otherwise: f64) -> Scenario {
    let title = "echo in an open loop at 70 % of the rate Go nano reaches with 100 x 1; latency counts from when a request was due";
    let peers = if topology == Standalone {
        [Peer::Nano, Peer::Go, Peer::Hop]
    } else {
        [Peer::Nano, Peer::Go, Peer::Stream]
    };
    Scenario::new(name, title, topology, Tcp)
        .open(0.7, otherwise)
        .peers(&peers)
        .target(Metric::P99, Base::Peer(Peer::Go), AtMost(1.0 / 3.0))
        .loses_nothing()
}

fn idle((connections, transport): (usize, Transport)) -> Scenario {
    let (name, most, of_which) = if transport == Tcp {
        ("tcp", 2.5, String::new())
    } else {
        (
            "ws",
            5.0 + WS_READ_BUFFER,
            format!(", {WS_READ_BUFFER} KiB of it our read buffer"),
        )
    };
    let title = format!(
        "memory of {connections} connections that only stay, {}{of_which}",
        called(transport)
    );
    Scenario::new(
        format!("idle-{name}-{connections}"),
        title,
        Standalone,
        transport,
    )
    .clients(connections, 1)
    .load(&["--scenario", "idle"])
    .and(&FIELD)
    .target(Metric::Memory, Base::Nothing, AtMost(most))
}
