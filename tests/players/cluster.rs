//! Gates and backends that offer the recorded server's service `U`.

use nano::{
    App, Balance, Options, Result,
    client::{Client, Subscription},
    testing::{TestCluster, TestNode, eventually, within},
};
use serde_json::{Value, json};

use crate::players::U;

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
        let cluster = TestCluster::start().await;
        let gate = async |name| {
            let options = cluster.member_options().balance(Balance::RoundRobin);
            let app = service(service(App::new(), "Gate"), name).tcp("127.0.0.1:0");
            TestNode::start(change(app).cluster(options)).await
        };
        let backend = async |name| {
            cluster
                .add(change(service(service(App::new(), "U"), name)))
                .await
        };
        let players = Self {
            gates: [gate("GateA").await, gate("GateB").await],
            backends: [backend("A").await, backend("B").await],
            cluster,
        };
        let [c, d] = &players.gates;
        let [a, b] = &players.backends;
        players.cluster.converged(&[a, b, c, d]).await;
        players
    }
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
