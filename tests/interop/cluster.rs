//! A cluster: a master, a gate that was there before the backend, a backend, and a gate that came
//! later.

use std::{collections::BTreeSet, path::Path, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    cannot::Defect,
    node::{Kind, Node, Role, Victim},
    player::Player,
    support::{DEADLINE, within},
};

/// Of which kind each is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kinds {
    pub(crate) master: Kind,
    pub(crate) gate: Kind,
    pub(crate) backend: Kind,
}

pub(crate) struct InteropCluster {
    pub(crate) program: &'static Path,
    pub(crate) kinds: Kinds,
    pub(crate) master: Node,
    pub(crate) gate: Node,
    pub(crate) backend: Node,
    late_gate: Option<Victim>,
    pub(crate) late_role: Role,
    met: BTreeSet<Defect>,
}

impl InteropCluster {
    pub(crate) async fn start(program: &'static Path, kinds: Kinds) -> Self {
        let master = Node::start(program, kinds.master, Role::new("Lobby", "master"), None).await;
        let gate = Node::start(
            program,
            kinds.gate,
            Role::gate("Gate", "gate"),
            Some(master.address()),
        )
        .await;
        let backend = Node::start(
            program,
            kinds.backend,
            Role::new("Room", "steady"),
            Some(master.address()),
        )
        .await;
        let late_role = Role::gate("Late", "late");
        let late_gate =
            Some(Victim::start(program, kinds.gate, &late_role, master.address()).await);
        Self {
            program,
            kinds,
            master,
            gate,
            backend,
            late_gate,
            late_role,
            met: BTreeSet::new(),
        }
    }

    pub(crate) async fn player(&self) -> Player {
        Player::connect(self.kinds.gate, self.gate.role.clients.as_deref().unwrap()).await
    }

    pub(crate) async fn late_player(&self) -> Player {
        Player::connect(self.kinds.gate, self.late_role.clients.as_deref().unwrap()).await
    }

    /// Starts the master again after its end, at its address, and waits until all members have called
    /// it.
    pub(crate) async fn restart_master(&mut self) {
        self.master = Node::start(
            self.program,
            self.kinds.master,
            self.master.role.clone(),
            None,
        )
        .await;
        self.master
            .has_heard_of(&[
                self.gate.address(),
                self.backend.address(),
                &self.late_role.address,
            ])
            .await;
    }

    /// Kills the gate that came later.
    pub(crate) async fn kill_late_gate(&mut self) {
        self.late_gate.take().unwrap().kill().await;
    }

    /// Starts it again at its address.
    pub(crate) async fn restart_late_gate(&mut self) {
        self.late_gate = Some(
            Victim::start(
                self.program,
                self.kinds.gate,
                &self.late_role,
                self.master.address(),
            )
            .await,
        );
    }

    /// Waits until the tables that can be seen are those of a cluster with these members besides
    /// the three that stay.
    pub(crate) async fn knows(&self, others: &[&str]) {
        let stay = [
            self.master.address(),
            self.gate.address(),
            self.backend.address(),
        ];
        for (node, own) in [&self.master, &self.gate, &self.backend]
            .into_iter()
            .zip(stay)
        {
            let expected: Vec<_> = stay
                .iter()
                .chain(others)
                .copied()
                .filter(|address| *address != own)
                .collect();
            node.knows(&expected).await;
        }
    }

    /// Waits until the gate offers exactly these members to new sessions that want a room.
    pub(crate) async fn is_offered(&self, members: &[&str]) {
        let mut expected = members.to_vec();
        expected.sort_unstable();
        let end = Instant::now() + DEADLINE;
        loop {
            let offered = self.offered().await;
            if offered == expected {
                return;
            }
            assert!(
                Instant::now() < end,
                "{} offers {offered:?} instead of {expected:?}",
                self.gate.address()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A client whose session this member serves. The master announces in its own time one that has
    /// joined, and takes its former entry back before, and the table of a Go node cannot be seen: so
    /// clients come until one is served by it.
    pub(crate) async fn player_of(&self, label: &'static str, address: &str) -> Player {
        let served = async {
            loop {
                let player = self.player().await;
                player.want(label).await;
                player.ask_until_answered("Room.Echo", "").await;
                if player.ask("Gate.Chosen", "").await == address {
                    return player;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        within("a session that a certain member serves", served).await
    }

    /// Checks that the gate offers members who are gone.
    pub(crate) async fn still_has(&self, members: &[&str]) {
        let offered = self.offered().await;
        assert!(
            members
                .iter()
                .all(|&member| offered.iter().any(|offered| offered == member)),
            "{offered:?} without {members:?}"
        );
    }

    /// The members the gate offers to a new session that wants a room.
    async fn offered(&self) -> Vec<String> {
        let player = self.player().await;
        player.want("steady").await;
        player.ask_until_answered("Room.Echo", "").await;
        player.offered().await
    }

    /// Whether this defect occurs here. A caller that asks proves that it does.
    pub(crate) fn meets(&mut self, defect: Defect) -> bool {
        let meets = Defect::of(self.kinds).contains(&defect);
        if meets {
            self.met.insert(defect);
        }
        meets
    }

    /// Every step that is missing here was shown to fail.
    pub(crate) fn met_all(&self) {
        assert_eq!(
            self.met.iter().copied().collect::<Vec<_>>(),
            Defect::of(self.kinds)
        );
    }
}
