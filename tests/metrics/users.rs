//! What is counted of users of the cluster.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
};

use nano::{
    App, Login, Result, Session, Unique, UserId, code, metrics as names,
    testing::{TestCluster, TestNode},
};
use parking_lot::Mutex;
use tokio::task::yield_now;

use crate::{
    counts::{Counts, Series},
    harness::{Client, start},
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
    let logins = |which| outcome(&gate, which);
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
    let locations = series.named(names::USER_LOCATIONS);
    counts.expect(&locations, 1).await;
    // A location is forgotten when the user is not found there.
    drop(second);
    let ends = || gate.handle().sessions().count() == 0;
    eventually("the user to go", ends).await;
    let missed = master.handle().users(["ann"]).push("on", &1).await;
    assert_eq!(missed.unwrap(), ["ann".into()]);
    counts.expect(&locations, 0).await;
}

#[tokio::test]
async fn a_login_that_is_refused_is_counted() {
    let mut counts = Counts::start().await;
    let node = start(App::new().unique_users(Unique::Reject)).await;
    let logins = Series::of(&node);
    let logins = |outcome| logins.with(names::LOGINS, ("outcome", outcome));
    let [one, two] = [Client::connect(&node).await, Client::connect(&node).await];
    let (first, second) = (one.session(&node).await, two.session(&node).await);
    first.login("ann").await.unwrap();
    counts.expect(&logins("granted"), 1).await;
    for refused in 1..=2 {
        let login = second.login("ann").await;
        assert_eq!(login.unwrap_err().code(), code::CONFLICT);
        counts.expect(&logins("refused"), refused).await;
    }
    assert_eq!(counts.total(&logins("failed")), 0);
    node.shutdown().await;
}

/// A gate with unique users, in a cluster.
async fn gate(cluster: &TestCluster, change: impl FnOnce(App) -> App) -> TestNode {
    let app = change(App::new().unique_users(Unique::Replace));
    let options = cluster.member_options();
    TestNode::start(app.tcp("127.0.0.1:0").cluster(options)).await
}

/// Waits until these nodes are in a view with a number.
async fn are_numbered(counts: &mut Counts, nodes: &[&TestNode]) {
    for node in nodes {
        let view = Series::of(node.node()).named(names::DIRECTORY_VIEW);
        counts.expect_at_least(&view, 1).await;
    }
}

fn outcome(node: &TestNode, outcome: &str) -> String {
    Series::of(node.node()).with(names::LOGINS, ("outcome", outcome))
}

/// Logs a new client in, as the user with this number.
async fn log_in(gate: &TestNode, user: i64) -> (Client, Result<Login>) {
    let client = Client::connect(gate.node()).await;
    let sessions = gate.handle().sessions().list();
    let session = sessions.iter().max_by_key(|session| session.id()).unwrap();
    let login = within("a login", session.login(user)).await;
    (client, login)
}

#[tokio::test]
#[ignore = "slow"]
async fn a_login_that_close_callbacks_outlast_is_late_and_counts_as_such() {
    let mut counts = Counts::start().await;
    let cluster = TestCluster::start().await;
    let (release, released) = mpsc::channel::<()>();
    let (released, ended) = (
        Arc::new(Mutex::new(released)),
        Arc::new(AtomicUsize::new(0)),
    );
    let waits = |app: App| {
        let (released, ended) = (released.clone(), ended.clone());
        app.on_session_closed(move |_: &Session, _| {
            // Until the test drops the other half.
            let _ = released.lock().recv();
            ended.fetch_add(1, Relaxed);
        })
    };
    let gates = [gate(&cluster, waits).await, gate(&cluster, waits).await];
    let [a, b] = &gates;
    cluster.converged(&[a, b]).await;
    are_numbered(&mut counts, &[a, b]).await;

    let (_first, login) = log_in(a, 7).await;
    assert_eq!(login.unwrap(), Login::default());
    let (_second, login) = log_in(b, 7).await;
    let login = login.unwrap();
    assert_eq!((login.replaced, login.late), (true, true));
    assert_eq!(ended.load(Relaxed), 0, "the callback runs still");
    counts.expect(&outcome(b, "late"), 1).await;
    for other in ["granted", "replaced", "refused", "failed"] {
        assert_eq!(counts.total(&outcome(b, other)), 0, "{other}");
    }
    drop(release);
    eventually("the callback", || ended.load(Relaxed) == 1).await;
    let (_third, login) = log_in(a, 7).await;
    let login = login.unwrap();
    assert_eq!((login.replaced, login.late), (true, false));
    counts.expect(&outcome(a, "replaced"), 1).await;
}

#[tokio::test]
async fn a_login_of_a_user_without_a_session_costs_one_call() {
    let mut counts = Counts::start().await;
    let cluster = TestCluster::start().await;
    let nodes = [
        gate(&cluster, |app| app).await,
        gate(&cluster, |app| app).await,
    ];
    let [gate, owner] = &nodes;
    cluster.converged(&[gate, owner]).await;
    are_numbered(&mut counts, &[gate, owner]).await;
    let series = Series::of(gate.node());
    let [sent, received] =
        [names::CLUSTER_FRAMES_SENT, names::CLUSTER_FRAMES_RECEIVED].map(|name| series.named(name));
    // The gate owns about half of them itself. Nodes also compare what they know now and then.
    let mut frames = [0; 3];
    // The end of a session is a message to its owner.
    let mut clients = Vec::new();
    // Owners ask gates for the slots one after the other. A login waits for its user's.
    for user in 101..=160 {
        clients.push(log_in(gate, user).await.0);
    }
    for user in 1..=60 {
        counts.update();
        let before = counts.total(&sent) + counts.total(&received);
        let (client, login) = log_in(gate, user).await;
        assert_eq!(login.unwrap(), Login::default());
        clients.push(client);
        counts.update();
        match counts.total(&sent) + counts.total(&received) - before {
            0 => frames[0] += 1,
            2 => frames[1] += 1,
            _ => frames[2] += 1,
        }
    }
    println!("no frame, a call and its answer, others: {frames:?}");
    let [here, one_call, other] = frames;
    assert!(here > 10 && one_call > 10 && other < 5, "{frames:?}");

    // Of a view with one node less.
    let [view, all, owners] = [
        names::DIRECTORY_VIEW,
        names::DIRECTORY_NODES,
        names::DIRECTORY_OWNERS,
    ]
    .map(|name| series.named(name));
    counts.expect(&all, 3).await;
    counts.expect(&owners, 2).await;
    let number = counts.total(&view);
    owner.stop().await;
    counts.expect(&all, 2).await;
    counts.expect(&owners, 1).await;
    counts.expect_at_least(&view, number + 1).await;
}

#[tokio::test]
async fn a_push_to_many_users_is_one_frame_for_each_gate_and_stream() {
    const USERS: i64 = 1_000;
    const GONE: i64 = 50;
    let mut counts = Counts::start().await;
    let cluster = TestCluster::start().await;
    let start = async || {
        let app = App::new().tcp("127.0.0.1:0");
        TestNode::start(app.cluster(cluster.member_options())).await
    };
    let gates = [start().await, start().await, start().await];
    let backend = cluster.add(App::new()).await;
    let [a, b, c] = &gates;
    cluster.converged(&[a, b, c, &backend]).await;
    are_numbered(&mut counts, &[a, b, c, &backend]).await;

    // Two streams carry what is for one gate, each for the sessions with ids of its own.
    let (mut clients, mut links) = (Vec::new(), BTreeSet::new());
    for user in 1..=USERS {
        let at = user as usize % 3;
        let client = Client::connect(gates[at].node()).await;
        let session = client.session(gates[at].node()).await;
        session.bind(user).unwrap();
        links.insert((at, session.id() % 2));
        clients.push(client);
    }
    // Some twice, and some that are not online.
    let online = (1..=USERS).map(UserId::from);
    let twice = (1..=USERS).step_by(10).map(UserId::from);
    let offline: Vec<_> = (1..=USERS)
        .step_by(7)
        .map(|user| UserId::from(10_000 + user))
        .collect();
    let all: Vec<_> = online.chain(offline.clone()).chain(twice).collect();
    let series = Series::of(backend.node());
    let [pushes, frames] = [names::USER_PUSHES, names::CLUSTER_FRAMES_SENT];
    let [pushes, frames] = [pushes, frames].map(|name| series.named(name));
    // An owner hears of a bind a moment later.
    within("all to be found", async {
        let push = async || {
            backend
                .handle()
                .users(all.clone())
                .push("onFirst", &0)
                .await
        };
        while push().await.unwrap() != offline {
            yield_now().await;
        }
    })
    .await;
    for round in 0..3 {
        counts.update();
        let before = [&pushes, &frames].map(|name| counts.total(name));
        let push = backend.handle().users(all.clone());
        let missed = within("a push", push.push("on", &round)).await.unwrap();
        assert_eq!(missed, offline);
        counts.update();
        let after = [&pushes, &frames].map(|name| counts.total(name));
        let [pushed, sent] = [after[0] - before[0], after[1] - before[1]];
        assert_eq!(pushed, links.len(), "one for each gate and stream");
        // Each owner is asked for those that are not online. What is left is not of pushes.
        println!("{sent} frames, of which {pushed} are pushes");
        assert!(sent <= pushed + 4 + 4, "{sent} frames");
    }
    assert_eq!(links.len(), 6);
    // Their gates are still known, until they say that the users have gone.
    clients.drain(..GONE as usize);
    let sessions = || gates.iter().map(|gate| gate.handle().sessions().count());
    let left = (USERS - GONE) as usize;
    eventually("some to go", || sessions().sum::<usize>() == left).await;
    let gone = (1..=GONE).map(UserId::from);
    let push = backend.handle().users(all);
    let mut missed = within("a push", push.push("on", &3)).await.unwrap();
    missed.sort_unstable();
    assert_eq!(missed, gone.chain(offline).collect::<Vec<_>>());
    for client in &mut clients {
        for round in 0..4 {
            assert_eq!(client.push("on").await, round.to_string());
        }
    }
}
