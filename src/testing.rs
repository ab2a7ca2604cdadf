//! What tests of a server need: nodes on free ports, clusters in one process, clients, and waiting
//! with a deadline. Behind the feature `testing`:
//!
//! ```toml
//! [dev-dependencies]
//! nano-server = { version = "0.1", features = ["testing"] }
//! ```
//!
//! A test of one node:
//!
//! ```
//! use nano::{App, Component, Handlers, Result, Session, testing::{TestNode, within}};
//!
//! struct Greeter;
//!
//! impl Component for Greeter {
//!     fn handlers(h: Handlers<Self>) -> Handlers<Self> { h.on("Greet", Self::greet) }
//! }
//!
//! impl Greeter {
//!     fn greet(&self, _: &Session, name: String) -> Result<String> { Ok(format!("hello {name}")) }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result {
//! let node = TestNode::start(App::new().component(Greeter).tcp("127.0.0.1:0")).await;
//! let client = node.client().await;
//! let greeting: String = within("a greeting", client.request("Greeter.Greet", &"Ann")).await?;
//! assert_eq!(greeting, "hello Ann");
//! # Ok(())
//! # }
//! ```
//!
//! A test of a cluster, in which a member crashes:
//!
//! ```
//! use nano::{App, testing::TestCluster};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let cluster = TestCluster::start().await;
//! let gate = cluster.add(App::new().tcp("127.0.0.1:0")).await;
//! let mut backend = cluster.add(App::new()).await;
//! cluster.converged(&[&gate, &backend]).await;
//!
//! backend.kill();
//! cluster.converged(&[&gate]).await;
//! # }
//! ```
//!
//! Everything here panics where a test should fail, and names the line of the test. Handlers alone,
//! without a node, are tested with [`mock`](crate::mock).

mod client;
mod cluster;
mod node;
mod wait;
pub mod websocket;

pub use self::{
    client::RawClient,
    cluster::TestCluster,
    node::TestNode,
    wait::{DEADLINE, eventually, within},
};
