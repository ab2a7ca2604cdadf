//! Logins while members and masters die and start.

use std::{sync::Arc, time::Duration};

use nano::{
    App, Cluster, Unique,
    client::Client,
    testing::{TestCluster, TestNode, eventually, within},
};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    cluster::{Players, ask, backend, found, gate},
    views::Views,
};

/// Logs all users in from gates at random, all at once. Some logins fail while members change.
async fn log_all_in(players: &Players, users: i64, random: &mut StdRng) -> Vec<(i64, Client)> {
    let mut logins = Vec::new();
    for user in 1..=users {
        let client = players.gates[random.random_range(0..2)].client().await;
        let service = ["U", "Gate"][random.random_range(0..2)];
        logins.push(tokio::spawn(async move {
            let login = json!({ "user": user, "mode": "login" });
            let route = format!("{service}.Login");
            let login = timeout(Duration::from_secs(8), ask(&client, &route, login)).await;
            (user, client, login.is_ok_and(|login| login.is_ok()))
        }));
    }
    let mut clients = Vec::new();
    for login in logins {
        let (user, client, ok) = login.await.unwrap();
        if ok {
            clients.push((user, client));
        }
    }
    clients
}

/// Checks that each user has one session, where every node finds it.
async fn each_has_one(players: &Players, users: i64) {
    for user in 1..=users {
        let at_gates = || {
            let gates = players.gates.iter();
            gates.flat_map(move |gate| {
                let sessions = gate.handle().sessions_by_uid(user).into_iter();
                sessions.map(|session| (gate.address(), session.id()))
            })
        };
        eventually("one session to be left", || at_gates().count() == 1).await;
        let at = at_gates().next().unwrap();
        for node in players.nodes() {
            let found = found(node, user, 1).await.remove(0);
            assert_eq!((found.gate, found.session), at, "user {user}");
        }
    }
}

async fn keep_one_session(users: i64, rounds: usize, seed: u64) {
    let random = &mut StdRng::seed_from_u64(seed);
    let unique = |app: App| app.unique_users(Unique::Replace);
    let mut players = Players::start(unique).await;
    let mut clients = Vec::new();
    for round in 0..rounds {
        // Members die and start while users log in.
        let at = round % 2;
        players.backends[at].kill();
        clients.extend(log_all_in(&players, users, random).await);
        let started: TestNode = backend(&players.cluster, ["A", "B"][at], unique).await;
        players.backends[at] = started;
        clients.extend(log_all_in(&players, users, random).await);
        let [a, b] = &players.backends;
        let [c, d] = &players.gates;
        players.cluster.converged(&[a, b, c, d]).await;

        // What members that came and went left behind, the next login ends.
        let last = log_all_in(&players, users, random).await;
        assert_eq!(last.len(), users as usize, "round {round}");
        each_has_one(&players, users).await;
        for (user, client) in clients.drain(..) {
            within("a replaced session to end", client.closed()).await;
            assert_eq!(client.kick().unwrap().code, "LOGIN-REPLACED", "user {user}");
        }
        clients = last;
    }
}

#[tokio::test]
async fn users_keep_one_session_after_members_died_and_started() {
    keep_one_session(12, 2, 1).await;
}

#[tokio::test]
#[ignore = "slow"]
async fn two_hundred_users_keep_one_session_after_members_died_and_started() {
    keep_one_session(200, 12, 2).await;
}

/// Sessions of a gate that hears nothing of the master go on, and logins too.
#[tokio::test]
async fn a_master_that_dies_costs_no_player_the_session_and_no_login() {
    let views = Views::record();
    let unique = |app: App| app.unique_users(Unique::Replace);
    let mut master = TestNode::start(App::new().cluster(TestCluster::master_options())).await;
    let options = || {
        let options = Cluster::join([master.address()]);
        let heartbeat = Duration::from_millis(100);
        options.listen("127.0.0.1:0").heartbeat(heartbeat)
    };
    let gates = [
        gate(options(), "A", unique).await,
        gate(options(), "B", unique).await,
    ];
    for node in &gates {
        node.knows(2).await;
    }
    let [a, b] = &gates;
    views.are_numbered(&[a, b, &master]).await;
    let mut clients = Vec::new();
    for user in 1..=8 {
        let client = gates[user % 2].client().await;
        let login = json!({ "user": user, "mode": "login" });
        ask(&client, "Gate.Login", login).await.unwrap();
        clients.push(client);
    }
    master.kill();
    // Three times as long as the master lets a member be silent.
    let end = Instant::now() + Duration::from_millis(1200);
    let mut before: Option<Client> = None;
    let mut turn = 0;
    while Instant::now() < end {
        let client = gates[turn % 2].client().await;
        let login = json!({ "user": "ann", "mode": "login" });
        let login = ask(&client, "Gate.Login", login).await.unwrap();
        assert_eq!(login, json!({ "replaced": turn > 0 }));
        if let Some(before) = before.replace(client) {
            within("the end", before.closed()).await;
        }
        turn += 1;
    }
    for client in &clients {
        assert_eq!(client.close_reason(), None);
        ask(client, "Gate.Me", json!({})).await.unwrap();
    }
}

#[tokio::test]
async fn a_master_that_dies_before_it_numbers_a_view_keeps_no_user_out() {
    let views = Views::record();
    let unique = |app: App| app.unique_users(Unique::Replace);
    let mut master = TestNode::start(App::new().cluster(TestCluster::master_options())).await;
    // It numbers none for as long as a member may be silent: four intervals.
    let heartbeat = Duration::from_millis(500);
    let options = || Cluster::join([master.address()]).listen("127.0.0.1:0");
    let gates = [
        gate(options().heartbeat(heartbeat), "A", unique).await,
        gate(options().heartbeat(heartbeat), "B", unique).await,
    ];
    for node in &gates {
        node.knows(2).await;
    }
    views.spare_the_master(&[&gates[0], &gates[1]]).await;
    master.kill();
    let mut logins = Vec::new();
    for user in 1..=16 {
        let client = gates[user % 2].client().await;
        logins.push(tokio::spawn(async move {
            let login = json!({ "user": user, "mode": "login" });
            ask(&client, "Gate.Login", login).await.map(drop)
        }));
    }
    for login in logins {
        within("a login", login).await.unwrap().unwrap();
    }
}

/// A session of one user is taken over from gate to gate, and its close callbacks run on the gate and on
/// the backend first. Prints the times.
#[tokio::test]
#[ignore = "slow"]
async fn a_session_is_taken_over_between_two_gates_in_milliseconds() {
    let ended = Arc::new(Mutex::new(Vec::new()));
    let app = |app: App| {
        let ended = ended.clone();
        let app = app.unique_users(Unique::Replace);
        app.on_session_closed(move |session, _| ended.lock().push(session.id()))
    };
    let players = Players::start(app).await;
    let login = json!({ "user": 7, "mode": "login" });
    let mut times = Vec::new();
    let mut before: Option<(Client, i64)> = None;
    for turn in 0..500 {
        let gate = &players.gates[turn % 2];
        let client = gate.client().await;
        let begun = Instant::now();
        let login = ask(&client, "U.Login", login.clone()).await.unwrap();
        times.push(begun.elapsed());
        let ended = std::mem::take(&mut *ended.lock());
        assert_eq!(login, json!({ "replaced": turn > 0 }));
        if let Some((_, old)) = before {
            assert_eq!(
                ended, [old; 2],
                "turn {turn}: on the gate and on the backend"
            );
        }
        let id = gate.handle().sessions_by_uid(7).remove(0).id();
        before = Some((client, id));
    }
    drop(before);
    times.sort_unstable();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("p50 {half:?}, p99 {most:?}");
    // Ten times as much without optimizations, and on a machine that is busy.
    let bound = if cfg!(debug_assertions) { 200 } else { 20 };
    assert!(most < Duration::from_millis(bound), "p99 {most:?}");
}
