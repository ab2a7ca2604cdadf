//! A user whose owner does not answer: operators get an answer within the time that they wait.

use std::{net::SocketAddr, time::Duration};

use nano::{App, Cluster, Unique, testing::TestNode};
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    http::{Answer, get},
    support::{Peer, eventually, within},
};

const HEARTBEAT: Duration = Duration::from_millis(100);

/// How long the dashboard and `nano` wait for an answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

async fn locate(admin: SocketAddr, user: &str) -> Answer {
    let path = format!("/api/v1/users/locate?user={user}");
    let answer = timeout(ASK_TIMEOUT, get(admin, &path)).await;
    answer.expect("an answer while operators wait for it")
}

#[tokio::test]
async fn operators_are_answered_when_the_owner_of_a_user_is_suspended() {
    let master = Peer::start(&["--is-master", "--hb", "100ms", "--services", ""]).await;
    let address = master.node();
    let member = ["--master", &address, "--hb", "100ms", "--services", ""];
    let other = Peer::start(&member).await;
    let options = Cluster::join([&address]).listen("127.0.0.1:0");
    let app = App::new()
        .admin("127.0.0.1:0")
        .tcp("127.0.0.1:0")
        .unique_users(Unique::Replace);
    let gate = TestNode::start(app.cluster(options.heartbeat(HEARTBEAT))).await;
    let admin = gate.handle().admin_address().unwrap();
    within("both members own users", async {
        let shows = |text: &str, metric: &str, value: &str| {
            let mut lines = text.lines().filter(|line| line.starts_with(metric));
            lines.any(|line| line.ends_with(value))
        };
        loop {
            let text = get(admin, "/metrics").await.body;
            let all = shows(&text, "nano_directory_nodes", " 3");
            let numbered = !shows(&text, "nano_directory_view", " 0");
            if all && numbered && shows(&text, "nano_directory_owners", " 2") {
                break;
            }
        }
    })
    .await;
    let _client = gate.client().await;
    let sessions = gate.handle().sessions();
    eventually("the session", || sessions.count() == 1).await;
    let session = gate.handle().sessions().list().remove(0);
    // An owner answers for a slot when gates have named their sessions in it, and grants no login before.
    for user in (1000..1012).chain([7]) {
        session.login(user).await.unwrap();
    }
    assert_eq!(locate(admin, "unknown").await.ok(), json!({"sessions": []}));

    // No node evicts the other member while the master is suspended.
    master.signal("STOP").await;
    other.signal("STOP").await;
    let asked = (1000..1012).map(|user| async move { locate(admin, &user.to_string()).await });
    let answers = asked.collect::<JoinSet<_>>().join_all().await;
    for answer in &answers {
        match answer.status {
            // This node owns the user.
            200 => assert_eq!(answer.json(), json!({"sessions": []})),
            _ => assert_eq!(answer.code(), "UNAVAILABLE"),
        }
    }
    let unknown = answers.iter().filter(|answer| answer.status == 503).count();
    assert!((1..12).contains(&unknown), "{answers:?}");
    let here = locate(admin, "7").await.ok();
    assert_eq!(here["sessions"][0]["session"], session.id());
}
