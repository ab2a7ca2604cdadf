//! Nodes on hosts of their own, which are network namespaces: with real cables between them, that
//! can be cut.

use std::{
    env,
    io::{self, Write},
    net::SocketAddr,
    process::{Command, Output},
    time::Duration,
};

use nano::code;
use tokio::time::sleep;

use crate::{
    cluster::{ALONE, REQUEST_TIMEOUT, all_forget, all_know_all, answered, connect, fails},
    load::Load,
    support::{Peer, program, within},
};

/// The hosts, in the order of their addresses, and what their nodes are called as services.
const HOSTS: [(&str, &str); 4] = [("master", "M"), ("gate", "G"), ("a", "A"), ("b", "B")];

/// Set where the test runs that was started on the network, to what the names of its hosts begin
/// with.
const ON_THE_NETWORK: &str = "NANO_TEST_HOSTS";

/// What the node may add to a timeout.
const SLACK: Duration = Duration::from_secs(2);

/// A switch, with the test beside it, and a cable to each host.
struct Network(String);

impl Network {
    /// All of it; gone when the guard is dropped.
    fn build() -> Result<Guard, String> {
        let network = Self(format!("nano{}", std::process::id()));
        let guard = Guard(network.0.clone());
        let switch = network.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "set", "lo", "up"])?;
        ip(&["-n", &switch, "link", "add", "switch", "type", "bridge"])?;
        ip(&[
            "-n",
            &switch,
            "addr",
            "add",
            "10.0.0.254/24",
            "dev",
            "switch",
        ])?;
        ip(&["-n", &switch, "link", "set", "switch", "up"])?;
        for (place, (name, _)) in HOSTS.iter().enumerate() {
            let (host, port) = (network.host(name), port(name));
            ip(&["netns", "add", &host])?;
            ip(&["-n", &host, "link", "set", "lo", "up"])?;
            ip(&[
                "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "cable",
                "netns", &host,
            ])?;
            ip(&[
                "-n", &switch, "link", "set", &port, "master", "switch", "up",
            ])?;
            ip(&[
                "-n",
                &host,
                "addr",
                "add",
                &format!("10.0.0.{}/24", place + 1),
                "dev",
                "cable",
            ])?;
            ip(&["-n", &host, "link", "set", "cable", "up"])?;
        }
        Ok(guard)
    }

    fn switch(&self) -> String {
        self.host("switch")
    }

    fn host(&self, name: &str) -> String {
        format!("{}-{name}", self.0)
    }

    /// Starts a node on its host. All have the service `T` by a name of their own; backends by its
    /// own too.
    async fn start(&self, name: &str) -> Peer {
        let place = HOSTS.iter().position(|(host, _)| *host == name).unwrap();
        let address = format!("10.0.0.{}:7000", place + 1);
        let own = format!("{}=T", HOSTS[place].1);
        let both = format!("{own},T");
        let role: &[&str] = match name {
            "master" => &["--is-master", "--services", &own],
            "gate" => &["--master", "10.0.0.1:7000", "--services", &own],
            _ => &["--master", "10.0.0.1:7000", "--services", &both],
        };
        let mut command = tokio::process::Command::new("ip");
        command
            .args(["netns", "exec", &self.host(name)])
            .arg(program())
            .env("NANO_CLUSTER_TOKEN", "swordfish");
        let clients = at(name).to_string();
        let always = [
            "--listen",
            &address,
            "--client",
            &clients,
            "--hb",
            "1s",
            "--retry",
            "250ms",
            "--request-timeout",
            "5s",
        ];
        Peer::launch(command, &[&always, role].concat()).await
    }

    /// Pulls the host's cable out of the switch.
    fn unplug(&self, name: &str) {
        ip(&["-n", &self.switch(), "link", "set", &port(name), "down"]).unwrap();
    }

    fn plug_in(&self, name: &str) {
        ip(&["-n", &self.switch(), "link", "set", &port(name), "up"]).unwrap();
    }

    /// Whether these hosts see each other. All others see them in any case.
    fn apart(&self, names: [&str; 2], apart: bool) {
        for name in names {
            let state = if apart { "on" } else { "off" };
            run(Command::new("bridge").args([
                "-n",
                &self.switch(),
                "link",
                "set",
                "dev",
                &port(name),
                "isolated",
                state,
            ]))
            .unwrap();
        }
    }
}

struct Guard(String);

impl Drop for Guard {
    fn drop(&mut self) {
        for name in HOSTS.iter().map(|(name, _)| *name).chain(["switch"]) {
            // What was never made cannot be removed.
            let _ = ip(&["netns", "del", &format!("{}-{name}", self.0)]);
        }
    }
}

/// Where the clients of the node on this host connect.
fn at(host: &str) -> SocketAddr {
    let place = HOSTS.iter().position(|(name, _)| *name == host).unwrap();
    SocketAddr::from(([10, 0, 0, place as u8 + 1], 8000))
}

/// The name of a host's cable at the switch.
fn port(name: &str) -> String {
    format!("to-{name}")
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<(), String> {
    let Output { status, stderr, .. } = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&stderr).trim()
        ))
    }
}

#[test]
#[ignore = "slow"]
fn hosts_that_lose_sight_of_each_other_find_each_other_again() {
    if let Ok(hosts) = env::var(ON_THE_NETWORK) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(lose_sight_and_find_again(&Network(hosts)));
    }
    let _alone = ALONE.blocking_lock();
    let guard = match Network::build() {
        Ok(guard) => guard,
        // Not by a macro: what a test that passes prints by one is not shown.
        Err(problem) => {
            return writeln!(
                io::stderr(),
                "skipped, for there are no network namespaces here: {problem}"
            )
            .unwrap();
        }
    };
    let on_the_network = Command::new("ip")
        .args(["netns", "exec", &Network(guard.0.clone()).switch()])
        .arg(env::current_exe().unwrap())
        .args([
            "hosts::hosts_that_lose_sight_of_each_other_find_each_other_again",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(ON_THE_NETWORK, &guard.0)
        .status();
    assert!(on_the_network.unwrap().success());
}

async fn lose_sight_and_find_again(network: &Network) {
    let _master = network.start("master").await;
    let gate_process = network.start("gate").await;
    let gate = gate_process.address;
    let (mut a, _b) = (network.start("a").await, network.start("b").await);
    let all = HOSTS.map(|(host, name)| (name, at(host)));
    let [master_node, gate_node, a_node, b_node] = all;
    all_know_all(&all).await;

    // The gate and a backend have lost each other, and the master sees both.
    let load = Load::start(gate, 20).await;
    load.goes_on(300).await;
    network.apart(["gate", "a"], true);
    let (of_gate, of_a) = (connect(gate).await, connect(a.address).await);
    within(
        "the gate to see it",
        fails(&of_gate, "A.Empty", |error| {
            error.code() == code::UNAVAILABLE
        }),
    )
    .await;
    within(
        "the backend to see it",
        fails(&of_a, "G.Empty", |error| error.code() == code::UNAVAILABLE),
    )
    .await;
    answered(&connect(gate).await, "T.Empty").await;
    for seen_by_both in [
        [master_node, gate_node, b_node],
        [master_node, a_node, b_node],
    ] {
        all_know_all(&seen_by_both).await;
    }
    network.apart(["gate", "a"], false);
    all_know_all(&all).await;
    everything_ended(load).await;

    // The master is cut off, for longer than a member may be silent. No member is evicted.
    let load = Load::start(gate, 20).await;
    network.unplug("master");
    sleep(Duration::from_secs(6)).await;
    load.goes_on(300).await;
    all_know_all(&[gate_node, a_node, b_node]).await;
    within(
        "the gate to see it",
        fails(&connect(gate).await, "M.Empty", |error| {
            error.code() == code::UNAVAILABLE
        }),
    )
    .await;
    network.plug_in("master");
    all_know_all(&all).await;
    everything_ended(load).await;

    // A backend is cut off from all.
    let load = Load::start(gate, 20).await;
    load.goes_on(300).await;
    network.unplug("a");
    all_forget(&[master_node, gate_node, b_node], "A").await;
    load.goes_on(300).await;
    network.plug_in("a");
    all_know_all(&all).await;
    everything_ended(load).await;

    // It is killed, and started again at its address.
    let load = Load::start(gate, 20).await;
    load.goes_on(300).await;
    a.signal("KILL").await;
    a.exited().await;
    a = network.start("a").await;
    all_know_all(&all).await;
    everything_ended(load).await;
    drop(a);
}

/// Every request of the load has ended in time, and its sessions are served again.
async fn everything_ended(load: Load) {
    load.goes_on(300).await;
    let outcome = load.stop().await;
    outcome.unavailable();
    assert!(
        outcome.slowest < REQUEST_TIMEOUT + SLACK,
        "nothing waits longer than its timeout: {outcome:?}"
    );
}
