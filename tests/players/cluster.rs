//! Gates and backends that offer the recorded server's service `U`.

use nano::{
    App, Balance, Cluster, Location, Options, Result, UserId,
    client::{Client, Subscription},
    testing::{TestCluster, TestNode, eventually, within},
};
use serde_json::{Value, json};

use crate::{players::U, views::Views};

/// Two gates and two backends. Gates offer `U` as `Gate`, the backends as `U` and under their name.
pub(crate) struct Players {
    pub(crate) cluster: TestCluster,
    pub(crate) gates: [TestNode; 2],
    pub(crate) backends: [TestNode; 2],
}

fn service(app: App, name: &str) -> App {
    app.component_with::<nano::Json, _>(U, Options::new().name(name))
}

impl Players {
    pub(crate) async fn start(change: impl Fn(App) -> App) -> Self {
        let views = Views::record();
        let cluster = TestCluster::start().await;
        let gate = async |name| gate(cluster.member_options(), name, &change).await;
        let backend = async |name| backend(&cluster, name, &change).await;
        let players = Self {
            gates: [gate("GateA").await, gate("GateB").await],
            backends: [backend("A").await, backend("B").await],
            cluster,
        };
        let [c, d] = &players.gates;
        let [a, b] = &players.backends;
        players.cluster.converged(&[a, b, c, d]).await;
        views.are_numbered(&players.nodes()).await;
        players
    }
}

/// Starts a gate that offers `U` as `Gate`, and under its name.
pub(crate) async fn gate(options: Cluster, name: &str, change: impl Fn(App) -> App) -> TestNode {
    let options = options.balance(Balance::RoundRobin);
    let app = service(service(App::new(), "Gate"), name).tcp("127.0.0.1:0");
    TestNode::start(change(app).cluster(options)).await
}

/// Starts a backend that offers `U`, and the same under its name.
pub(crate) async fn backend(
    cluster: &TestCluster,
    name: &str,
    change: impl Fn(App) -> App,
) -> TestNode {
    let app = service(service(App::new(), "U"), name);
    cluster.add(change(app)).await
}

impl Players {
    /// The master last.
    pub(crate) fn nodes(&self) -> Vec<&TestNode> {
        let members = self.gates.iter().chain(&self.backends);
        members.chain([self.cluster.master()]).collect()
    }
}

/// Asks a service like `U`.
pub(crate) async fn ask(client: &Client, route: &str, body: Value) -> Result<Value> {
    within(route, client.request(route, &body)).await
}

/// Who the client is at a service.
pub(crate) async fn me(client: &Client, service: &str) -> Value {
    let me = ask(client, &format!("{service}.Me"), json!({})).await;
    me.unwrap()["user"].clone()
}

/// The next push of a subscription.
pub(crate) async fn next(pushes: &mut Subscription) -> Value {
    let mut body = None;
    eventually("a push", || {
        body = pushes.try_recv();
        body.is_some()
    })
    .await;
    serde_json::from_slice(&body.unwrap()).unwrap()
}

/// Waits until a node finds so many sessions of a user: an owner hears of a bind a moment later.
pub(crate) async fn found(node: &TestNode, user: impl Into<UserId>, count: usize) -> Vec<Location> {
    let user = node.handle().user(user);
    let found = async {
        loop {
            let found = user.locate().await.unwrap();
            if found.len() == count {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    within("the sessions to be found", found).await
}
