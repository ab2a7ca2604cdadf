//! A node of either kind.

use std::{path::Path, sync::Arc, time::Duration};

use nano::{App, Cluster, Handle, Node as Rust, Options, Timeouts, Unique};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    go::GoNode,
    room::{Room, State, choose},
    support::{Peer, eventually, free_address, within},
};

/// The members call the master this often, and are given up after four missed calls.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rust,
    Go,
}

/// What a node is to be.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) service: &'static str,
    pub(crate) label: &'static str,
    /// Where other nodes reach it.
    pub(crate) address: String,
    /// Where clients do.
    pub(crate) clients: Option<String>,
}

impl Role {
    pub(crate) fn new(service: &'static str, label: &'static str) -> Self {
        Self {
            service,
            label,
            address: free_address(),
            clients: None,
        }
    }

    pub(crate) fn gate(service: &'static str, label: &'static str) -> Self {
        Self {
            clients: Some(free_address()),
            ..Self::new(service, label)
        }
    }
}

pub(crate) struct Node {
    pub(crate) role: Role,
    run: Run,
}

enum Run {
    Here(Rust, Arc<State>),
    Go(GoNode),
}

impl Node {
    /// Starts a node, and waits until it is a member.
    pub(crate) async fn start(
        program: &Path,
        kind: Kind,
        role: Role,
        master: Option<&str>,
    ) -> Self {
        let run = match kind {
            Kind::Rust => {
                let room = Room::new(role.label);
                let (app, state) = (app(&role, room.clone(), master), room.0);
                Run::Here(within("a node to join", app.start()).await.unwrap(), state)
            }
            Kind::Go => Run::Go(start(program, &role, master).await),
        };
        Self { role, run }
    }

    pub(crate) fn address(&self) -> &str {
        &self.role.address
    }

    /// Waits until the master knows these members, whatever they know.
    pub(crate) async fn has_heard_of(&self, members: &[&str]) {
        match &self.run {
            Run::Here(..) => self.knows(members).await,
            Run::Go(node) => {
                for member in members {
                    node.has_heard_of(member).await;
                }
            }
        }
    }

    /// How many sessions with this uid have ended here.
    pub(crate) fn closed(&self, uid: i64) -> usize {
        match &self.run {
            Run::Here(_, state) => state
                .closed
                .lock()
                .iter()
                .filter(|closed| **closed == uid)
                .count(),
            Run::Go(node) => node.said(&format!("closed {uid}")),
        }
    }

    pub(crate) async fn has_closed(&self, uid: i64) {
        eventually(
            &format!("{} to see the end of session {uid}", self.role.label),
            || self.closed(uid) > 0,
        )
        .await;
    }

    /// Waits until its table has these members and no others. A Go node does not show its table.
    pub(crate) async fn knows(&self, others: &[&str]) {
        let Run::Here(node, _) = &self.run else {
            return;
        };
        let mut expected = others.to_vec();
        expected.sort_unstable();
        let table = || {
            let mut table: Vec<_> = node
                .handle()
                .members()
                .iter()
                .map(|member| member.address().to_owned())
                .collect();
            table.sort();
            table
        };
        eventually(
            &format!(
                "{} to know {expected:?}, it knows {:?}",
                self.role.label,
                table()
            ),
            || table() == expected,
        )
        .await;
    }

    /// Waits until it has learned that this member has left.
    pub(crate) async fn is_notified_of_the_end_of(&self, address: &str) {
        match &self.run {
            Run::Here(node, _) => {
                let gone = || {
                    !node
                        .handle()
                        .members()
                        .iter()
                        .any(|member| member.address() == address)
                };
                eventually(&format!("{address} to be gone"), gone).await;
            }
            Run::Go(node) => node.is_notified_of_the_end_of(address).await,
        }
    }

    /// The handle of a node of ours.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        match &self.run {
            Run::Here(node, _) => Some(node.handle()),
            Run::Go(_) => None,
        }
    }

    /// How many sessions it still has; a Go node does not say.
    pub(crate) fn sessions(&self) -> usize {
        match &self.run {
            Run::Here(node, _) => node.handle().sessions().count(),
            Run::Go(_) => 0,
        }
    }

    pub(crate) async fn stop(&mut self) {
        match &mut self.run {
            Run::Here(node, _) => within("the end of a node", node.shutdown()).await,
            Run::Go(node) => node.stop().await,
        }
    }
}

/// A node in a process of its own, to be killed. Ours has the service of the recorded server, which
/// is to echo.
pub(crate) enum Victim {
    Rust(Peer),
    Go(GoNode),
}

impl Victim {
    pub(crate) async fn start(program: &Path, kind: Kind, role: &Role, master: &str) -> Self {
        match kind {
            Kind::Rust => {
                let services = format!("{}=Echo", role.service);
                let mut flags = vec![
                    "--listen",
                    &role.address,
                    "--master",
                    master,
                    "--hb",
                    "1s",
                    "--retry",
                    "250ms",
                ];
                flags.extend(["--services", &services, "--label", role.label]);
                flags.extend(
                    role.clients
                        .iter()
                        .flat_map(|clients| ["--client", clients]),
                );
                Self::Rust(Peer::start(&flags).await)
            }
            Kind::Go => Self::Go(start(program, role, Some(master)).await),
        }
    }

    /// Kills it; its addresses are free afterwards.
    pub(crate) async fn kill(self) {
        match self {
            Self::Rust(peer) => {
                peer.signal("KILL").await;
                peer.exited().await;
            }
            Self::Go(mut node) => node.kill().await,
        }
    }
}

/// A node that is on its way into the cluster.
pub(crate) struct Joining(JoinHandle<Node>);

impl Joining {
    pub(crate) fn begin(program: &'static Path, kind: Kind, role: Role, master: String) -> Self {
        Self(tokio::spawn(async move {
            Node::start(program, kind, role, Some(&master)).await
        }))
    }

    pub(crate) fn has_joined(&self) -> bool {
        self.0.is_finished()
    }

    /// Ready when it has joined.
    pub(crate) async fn settled(&self) {
        while !self.has_joined() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn joined(self) -> Node {
        within("a node to join", self.0).await.unwrap()
    }
}

fn app(role: &Role, room: Room, master: Option<&str>) -> App {
    let cluster = match master {
        None => Cluster::master(),
        Some(master) => Cluster::join([master]),
    };
    let app = App::new()
        .timeouts(Timeouts::new().heartbeat(HEARTBEAT))
        .unique_users(Unique::Replace)
        .component_with(room, Options::new().name(role.service))
        .cluster(
            cluster
                .listen(&role.address)
                .label(role.label)
                .retry_interval(HEARTBEAT / 4)
                .select_member(choose),
        );
    role.clients
        .iter()
        .fold(app, |app, clients| app.tcp(clients))
}

async fn start(program: &Path, role: &Role, master: Option<&str>) -> GoNode {
    let mut flags = vec![
        "-listen",
        &role.address,
        "-service",
        role.service,
        "-label",
        role.label,
    ];
    flags.extend(master.iter().flat_map(|master| ["-master", master]));
    flags.extend(
        role.clients
            .iter()
            .flat_map(|clients| ["-client", clients.as_str()]),
    );
    GoNode::start(program, &flags).await
}
