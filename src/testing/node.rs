//! One node of a test.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use super::{
    client::RawClient,
    wait::{eventually, within},
};
use crate::{
    app::App,
    client::Client,
    handle::Handle,
    node::Node,
    serialize::{Json, Serializer},
};

/// How long a killed node has to end its tasks. One that blocks outlives it.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How often [`TestNode::kill`] looks whether they have.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A node on a runtime of its own, so that it can crash while the test goes on.
///
/// Dropping it crashes it too. [`stop`](TestNode::stop) shuts it down in order.
///
/// ```
/// use nano::{App, testing::TestNode};
///
/// # #[tokio::main]
/// # async fn main() {
/// let node = TestNode::start(App::new().tcp("127.0.0.1:0")).await;
/// assert!(node.handle().is_ready());
/// assert_ne!(node.client_address().port(), 0);
/// # }
/// ```
#[derive(Debug)]
pub struct TestNode {
    node: Arc<Node>,
    /// `None` once it was killed.
    runtime: Option<Runtime>,
}

impl TestNode {
    /// Starts a node. Give the app addresses with port 0.
    ///
    /// # Panics
    /// It does not start, or not within [`DEADLINE`](super::DEADLINE).
    pub async fn start(app: impl Into<App>) -> Self {
        let app = app.into();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap_or_else(|error| panic!("no runtime for a node: {error}"));
        let started = within("a node to start", runtime.spawn(app.start())).await;
        let node = started
            .unwrap_or_else(|error| panic!("a node's start panicked: {error}"))
            .unwrap_or_else(|error| panic!("a node did not start: {error}"));
        Self {
            node: Arc::new(node),
            runtime: Some(runtime),
        }
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The node's handle.
    pub fn handle(&self) -> &Handle {
        self.node.handle()
    }

    /// The address of the first client listener.
    ///
    /// # Panics
    /// The node has no listener.
    pub fn client_address(&self) -> SocketAddr {
        let addresses = self.node.addresses();
        *addresses
            .first()
            .unwrap_or_else(|| panic!("the node has no listener for clients"))
    }

    /// The address by which other members know this one.
    ///
    /// # Panics
    /// The node is in no cluster.
    pub fn address(&self) -> String {
        let member = self.handle().member();
        member
            .unwrap_or_else(|| panic!("the node is in no cluster"))
            .address()
            .to_owned()
    }

    /// A client of the first listener, which must be TCP, with messages in JSON.
    ///
    /// # Panics
    /// It cannot connect.
    pub async fn client(&self) -> Client {
        self.client_of::<Json>().await
    }

    /// The same with messages in another format.
    ///
    /// # Panics
    /// It cannot connect.
    pub async fn client_of<S: Serializer>(&self) -> Client<S> {
        let url = format!("tcp://{}", self.client_address());
        within("a connection", Client::connect(&url))
            .await
            .unwrap_or_else(|error| panic!("cannot connect to {url}: {error}"))
            .typed()
    }

    /// A client of the first listener, which must be TCP, that sends and receives bare packets. The
    /// handshake is done.
    ///
    /// # Panics
    /// It cannot connect.
    pub async fn raw_client(&self) -> RawClient {
        let mut client = RawClient::tcp(self.client_address()).await;
        client.handshake().await;
        client
    }

    /// Crashes it: all its tasks end and its sockets close, without a word to clients or members.
    /// Does nothing the second time.
    ///
    /// Blocks until the tasks have ended, for five seconds at most.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let node = self.node.clone();
            // A thread that drives other tasks may not wait for a runtime to end.
            let end = thread::spawn(move || {
                let end = Instant::now() + KILL_TIMEOUT;
                runtime.shutdown_timeout(KILL_TIMEOUT);
                while !node.has_closed() && Instant::now() < end {
                    thread::sleep(POLL_INTERVAL);
                }
            });
            // It does not panic.
            let _ = end.join();
        }
    }

    /// Shuts it down in order.
    ///
    /// # Panics
    /// It takes longer than [`DEADLINE`](super::DEADLINE), or was killed before.
    pub async fn stop(&self) {
        let Some(runtime) = &self.runtime else {
            panic!("a node that was killed cannot be stopped");
        };
        let node = self.node.clone();
        let stopped = runtime.spawn(async move { node.shutdown().await });
        within("a node to stop", stopped)
            .await
            .unwrap_or_else(|error| panic!("a node's shutdown panicked: {error}"));
    }

    /// Waits until its member table has this many other members.
    ///
    /// # Panics
    /// That takes longer than [`DEADLINE`](super::DEADLINE).
    #[track_caller]
    pub fn knows(&self, others: usize) -> impl Future<Output = ()> {
        eventually("members to be known", move || {
            self.handle().members().len() == others
        })
    }

    /// Waits until no session is left on it.
    ///
    /// # Panics
    /// That takes longer than [`DEADLINE`](super::DEADLINE).
    #[track_caller]
    pub fn has_no_sessions(&self) -> impl Future<Output = ()> {
        eventually("sessions to be gone", || {
            self.handle().sessions().count() == 0
        })
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        // A runtime must not be dropped where blocking is forbidden, as in an async test.
        self.handle().shutdown();
        self.kill();
    }
}
