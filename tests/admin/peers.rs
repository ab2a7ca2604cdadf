//! The states of links to other members, as the metrics have them.

use std::time::Duration;

use nano::{
    App, metrics as names,
    testing::{TestCluster, TestNode},
};

use crate::{
    harness::Client,
    metrics::expect,
    raw_link::{frame, proto::Kind},
    scripted_peer::ScriptedPeer,
};

#[tokio::test]
async fn a_member_that_is_silent_or_takes_no_more_counts_as_such() {
    let options = TestCluster::master_options().heartbeat(Duration::from_secs(5));
    let app = App::new().admin("127.0.0.1:0").tcp("127.0.0.1:0");
    let gate = TestNode::start(app.cluster(options)).await;
    let mut peer = ScriptedPeer::join(&gate, 7).await;
    gate.knows(1).await;
    let is = async |expected: &str| {
        for state in ["idle", "good", "suspect", "cordoned", "broken", "draining"] {
            let series = format!("{}{{state=\"{state}\"}}", names::CLUSTER_PEERS);
            expect(gate.node(), &series, f64::from(state == expected)).await;
        }
    };
    let mut client = Client::connect(gate.node()).await;
    client.request("Hand.Ask", "null").await;
    let session = peer.next(Kind::SessionOpen).await.session;
    let stream = peer.stream_to(&gate, session).await;
    // Its answer is awaited for longer than a member takes that is well.
    is("suspect").await;
    stream.send(vec![frame(Kind::Keepalive)]);
    is("good").await;
    stream.send(vec![frame(Kind::Cordon)]);
    is("cordoned").await;
    stream.send(vec![frame(Kind::Goaway)]);
    is("draining").await;
}
