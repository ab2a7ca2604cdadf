//! The directory while its master is suspended: views stay as they are.

use std::{sync::Arc, time::Duration};

use nano::{
    App, Cluster, Component, Handlers, Result, Session, Unique, UserId,
    client::Client,
    testing::{TestNode, eventually, within},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    cluster::{ask, found, gate},
    support::Peer,
    views::Views,
};

const HEARTBEAT: Duration = Duration::from_millis(100);

/// As long as a login may take that no owner answers.
const LOGIN: Duration = Duration::from_secs(30);

/// Logs in, and says all that is known of it.
struct Login;

impl Component for Login {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("In", Self::log_in)
    }
}

impl Login {
    async fn log_in(self: Arc<Self>, session: Session, user: UserId) -> Result<Value> {
        let login = session.login(user).await?;
        Ok(json!({ "replaced": login.replaced, "late": login.late }))
    }
}

async fn login(client: &Client, user: Value) -> Result<Value> {
    let login = timeout(LOGIN, client.request("Login.In", &user));
    login.await.expect("an answer, or an error")
}

/// What a member finds when a user logs in while the master is suspended.
#[tokio::test]
#[ignore = "slow"]
async fn a_suspended_master_costs_no_session_and_delays_logins_only_by_what_has_died() {
    let views = Views::record();
    let unique = |app: App| app.unique_users(Unique::Replace).component(Login);
    let master = Peer::start(&["--is-master", "--hb", "100ms", "--services", ""]).await;
    let options = || {
        let options = Cluster::join([master.node()]).listen("127.0.0.1:0");
        options.heartbeat(HEARTBEAT)
    };
    let mut gates = [
        gate(options(), "A", unique).await,
        gate(options(), "B", unique).await,
        gate(options(), "C", unique).await,
    ];
    for node in &gates {
        node.knows(3).await;
    }
    let all: Vec<&TestNode> = gates.iter().collect();
    views.are_numbered_among(&all, 4).await;
    let mut clients = Vec::new();
    for user in 1..=12 {
        let client = gates[user % 3].client().await;
        login(&client, json!(user)).await.unwrap();
        clients.push(client);
    }

    master.signal("STOP").await;
    // Four times as long as the master lets a member be silent.
    let end = Instant::now() + 16 * HEARTBEAT;
    let mut before: Option<Client> = None;
    for turn in 0.. {
        if Instant::now() > end {
            break;
        }
        let client = gates[turn % 3].client().await;
        let begun = Instant::now();
        let replaced = login(&client, json!("ann")).await.unwrap();
        // The master serves none of the sessions, so no login waits for it.
        assert_eq!(replaced, json!({ "replaced": turn > 0, "late": false }));
        assert!(begun.elapsed() < Duration::from_secs(4), "it is in time");
        if let Some(before) = before.replace(client) {
            within("the end", before.closed()).await;
        }
    }
    for client in &clients {
        assert_eq!(client.close_reason(), None, "no session ends");
        ask(client, "Gate.Me", json!({})).await.unwrap();
    }

    // A gate dies, and no view follows. Its users get in where the owner lives, late; the users that it
    // owned get an error. Nothing waits for ever, and no session of the other gates ends.
    gates[2].kill();
    let mut logins = Vec::new();
    for user in (1..=12).filter(|user| user % 3 == 2) {
        let client = gates[user % 2].client().await;
        logins.push(tokio::spawn(async move {
            let result = login(&client, json!(user)).await;
            (user, client, result.is_ok())
        }));
    }
    let mut in_time = 0;
    for login in logins {
        let (_user, _client, ok) = login.await.unwrap();
        in_time += usize::from(ok);
    }
    println!("{in_time} of 4 users of the dead gate logged in without a master");
    for (at, client) in clients.iter().enumerate() {
        if (at + 1) % 3 != 2 {
            assert_eq!(client.close_reason(), None, "user {}", at + 1);
        }
    }

    master.signal("CONT").await;
    let [a, b, _] = &gates;
    eventually("the master evicts it", || {
        [a, b].iter().all(|node| node.handle().members().len() == 2)
    })
    .await;
    let mut last = Vec::new();
    for user in 1..=12 {
        let client = gates[user % 2].client().await;
        let begun = Instant::now();
        while let Err(error) = login(&client, json!(user)).await {
            assert!(begun.elapsed() < LOGIN, "user {user}: {error}");
            sleep(HEARTBEAT).await;
        }
        last.push(client);
    }
    for user in 1..=12 {
        let at = found(a, user, 1).await.remove(0);
        assert_eq!(found(b, user, 1).await.remove(0), at);
    }
    for client in &last {
        assert_eq!(client.close_reason(), None);
    }
}
