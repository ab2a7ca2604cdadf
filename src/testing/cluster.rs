//! A cluster of a test.

use std::time::Duration;

use super::node::TestNode;
use crate::app::{App, Cluster};

/// Ten a second: a member that crashed is evicted soon.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// A master, and the options with which further nodes join it.
///
/// ```
/// use nano::{App, testing::TestCluster};
///
/// # #[tokio::main]
/// # async fn main() {
/// let cluster = TestCluster::start().await;
/// let gate = cluster.add(App::new().tcp("127.0.0.1:0")).await;
/// let rooms = cluster.add(App::new()).await;
/// cluster.converged(&[&gate, &rooms]).await;
/// assert_eq!(gate.handle().members().len(), 2);
/// # }
/// ```
#[derive(Debug)]
pub struct TestCluster {
    master: TestNode,
}

impl TestCluster {
    /// Starts a master that offers nothing else.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start() -> Self {
        Self::with_master(App::new(), Self::master_options()).await
    }

    /// Starts a master that is this app, with options made from
    /// [`master_options`](Self::master_options).
    ///
    /// # Panics
    /// It does not start.
    pub async fn with_master(app: App, options: Cluster) -> Self {
        Self {
            master: TestNode::start(app.cluster(options)).await,
        }
    }

    /// A master on a free port, with heartbeats every 100 ms.
    pub fn master_options() -> Cluster {
        Cluster::master().listen("127.0.0.1:0").heartbeat(HEARTBEAT)
    }

    /// A member of this cluster on a free port, with heartbeats every 100 ms. Add to it what a test
    /// needs, and give it to [`App::cluster`].
    pub fn member_options(&self) -> Cluster {
        Cluster::join([self.master.address()])
            .listen("127.0.0.1:0")
            .heartbeat(HEARTBEAT)
    }

    /// Starts a member that is this app. It is registered when this returns; other members may
    /// learn of it a moment later: [`converged`](Self::converged).
    ///
    /// # Panics
    /// It does not start.
    pub async fn add(&self, app: App) -> TestNode {
        TestNode::start(app.cluster(self.member_options())).await
    }

    /// The master.
    pub fn master(&self) -> &TestNode {
        &self.master
    }

    /// Waits until the master and these members know each other, and no others.
    ///
    /// # Panics
    /// That takes longer than [`DEADLINE`](super::DEADLINE).
    pub async fn converged(&self, members: &[&TestNode]) {
        for node in members.iter().copied().chain([&self.master]) {
            node.knows(members.len()).await;
        }
    }
}
