//! What is counted of users of the cluster.

use nano::{
    App, Unique, metrics as names,
    testing::{TestCluster, TestNode},
};

use tokio::task::yield_now;

use crate::{
    counts::{Counts, Series},
    harness::Client,
    support::{eventually, within},
};

#[tokio::test]
async fn logins_lookups_and_pushes_to_users_are_counted() {
    let mut counts = Counts::start().await;
    let cluster = TestCluster::start().await;
    let app = App::new().unique_users(Unique::Replace);
    let options = cluster.member_options();
    let gate = TestNode::start(app.tcp("127.0.0.1:0").cluster(options)).await;
    cluster.converged(&[&gate]).await;
    let logins = |outcome| {
        let logins = Series::of(gate.node()).named(names::LOGINS);
        format!("{logins}{{outcome={outcome}}}")
    };
    let first = Client::connect(gate.node()).await;
    let session = gate.handle().sessions().list().pop().unwrap();
    session.login("ann").await.unwrap();
    counts.expect(&logins("granted"), 1).await;
    let mut second = Client::connect(gate.node()).await;
    let others = gate.handle().sessions().list();
    let other = others.into_iter().find(|other| other.id() != session.id());
    other.unwrap().login("ann").await.unwrap();
    eventually("a login", || {
        counts.update();
        counts.total(&logins("granted")) + counts.total(&logins("replaced")) == 2
    })
    .await;
    drop(first);

    let view = Series::of(gate.node());
    for name in [
        names::DIRECTORY_VIEW,
        names::DIRECTORY_NODES,
        names::DIRECTORY_OWNERS,
    ] {
        counts.expect_at_least(&view.named(name), 1).await;
    }

    let master = cluster.master();
    let ann = master.handle().user("ann");
    within("the owner to know", async {
        while ann.locate().await.map_or(0, |found| found.len()) != 1 {
            yield_now().await;
        }
    })
    .await;
    let series = Series::of(master.node());
    counts.update();
    let [looked_up, cached, pushes] = [
        names::USERS_LOOKED_UP,
        names::USERS_CACHED,
        names::USER_PUSHES,
    ]
    .map(|name| series.named(name));
    let before = [&looked_up, &cached, &pushes].map(|name| counts.total(name));
    assert!(before[0] > 0, "each locate asks");
    for _ in 0..2 {
        let missed = master.handle().users(["ann", "ben"]);
        assert_eq!(missed.push("on", &1).await.unwrap(), ["ben".into()]);
        second.push("on").await;
    }
    counts.expect(&series.named(names::USERS_MISSED), 2).await;
    counts.expect(&pushes, before[2] + 2).await;
    counts.expect_at_least(&looked_up, before[0] + 2).await;
    counts.expect_at_least(&cached, before[1] + 1).await;
    counts
        .expect_at_least(&series.named(names::USER_LOCATIONS), 1)
        .await;
}
