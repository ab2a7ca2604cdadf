use std::{collections::HashSet, sync::Arc, thread, time::Duration};

use futures_util::future::join_all;
use nano::{
    App, Unique, code,
    kick::Reconnect,
    testing::{TestNode, eventually, within},
};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    cluster::{Players, ask, found, me},
    players::U,
};

/// The sessions whose close callbacks have run, one entry for each node.
type Ended = Arc<Mutex<Vec<i64>>>;

fn replace(app: App) -> App {
    app.unique_users(Unique::Replace)
}

/// Close callbacks that take a moment, as one that saves a game does.
fn saves_slowly(app: App, ended: &Ended) -> App {
    let ended = ended.clone();
    app.on_session_closed(move |session, _| {
        thread::sleep(Duration::from_millis(30));
        ended.lock().push(session.id());
    })
}

#[tokio::test]
async fn a_login_returns_when_the_close_callbacks_of_the_session_before_have_run_on_all_nodes() {
    let ended = Ended::default();
    let players = Players::start(|app| saves_slowly(replace(app), &ended)).await;
    let mut before: Option<(nano::client::Client, i64)> = None;
    for turn in 0..4 {
        let client = players.gates[turn % 2].client().await;
        // Served by both backends and the gate itself; the login is a handler of each in turn.
        let mut id = 0;
        for service in ["A", "B", "Gate"] {
            let me = ask(&client, &format!("{service}.Me"), json!({}))
                .await
                .unwrap();
            id = me["id"].as_i64().unwrap();
        }
        let service = ["A", "Gate", "B", "U"][turn];
        let login = json!({ "user": "ann", "mode": "login" });
        let login = ask(&client, &format!("{service}.Login"), login)
            .await
            .unwrap();
        assert_eq!(login, json!({ "replaced": before.is_some() }));
        assert_eq!(me(&client, service).await, "ann");
        let all = std::mem::take(&mut *ended.lock());
        if let Some((old, old_id)) = before {
            assert_eq!(all, [old_id; 3], "turn {turn}");
            within("the end", old.closed()).await;
            let kick = old.kick().unwrap();
            assert_eq!(kick.code, "LOGIN-REPLACED");
            assert_eq!(kick.reconnect, Some(Reconnect::Never));
        }
        before = Some((client, id));
    }
    // The user's own session is replaced by no login of its own.
    let (client, _) = before.unwrap();
    let login = json!({ "user": "ann", "mode": "login" });
    let login = ask(&client, "A.Login", login).await.unwrap();
    assert_eq!(login, json!({ "replaced": false }));
}

#[tokio::test]
async fn of_many_logins_at_once_one_session_stays() {
    let players = Players::start(replace).await;
    let mut clients = Vec::new();
    for at in 0..16 {
        clients.push(players.gates[at % 2].client().await);
    }
    let logins: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(at, client)| {
            let (client, service) = (client.clone(), ["U", "Gate"][at / 2 % 2]);
            tokio::spawn(async move {
                let login = json!({ "user": 7, "mode": "login" });
                // A session that is replaced while it logs in gets no answer.
                let _ = ask(&client, &format!("{service}.Login"), login).await;
            })
        })
        .collect();
    for login in logins {
        login.await.unwrap();
    }
    let sessions = || {
        players
            .gates
            .iter()
            .flat_map(|gate| gate.handle().sessions_by_uid(7))
    };
    eventually("one session to stay", || sessions().count() == 1).await;
    let open = clients
        .iter()
        .filter(|client| client.close_reason().is_none());
    assert_eq!(open.count(), 1);
}

#[tokio::test]
async fn a_login_is_rejected_while_another_session_lives_and_no_longer() {
    let players = Players::start(|app| app.unique_users(Unique::Reject)).await;
    let [first, second] = [
        players.gates[0].client().await,
        players.gates[1].client().await,
    ];
    let login = json!({ "user": "ann", "mode": "login" });
    ask(&first, "A.Login", login.clone()).await.unwrap();
    for service in ["A", "Gate"] {
        let login = ask(&second, &format!("{service}.Login"), login.clone()).await;
        assert_eq!(login.unwrap_err().code(), code::CONFLICT);
        assert_eq!(me(&second, service).await, json!(null));
    }
    ask(&first, "B.Login", login.clone()).await.unwrap();
    drop(first);
    players.gates[0].has_no_sessions().await;
    let login = ask(&second, "A.Login", login).await.unwrap();
    assert_eq!(login, json!({ "replaced": false }));
}

#[tokio::test]
async fn a_node_that_died_does_not_hold_up_the_login() {
    let mut players = Players::start(replace).await;
    let old = players.gates[0].client().await;
    let login = json!({ "user": "ann", "mode": "login" });
    ask(&old, "A.Login", login.clone()).await.unwrap();
    players.backends[0].kill();
    let new = players.gates[1].client().await;
    let login = ask(&new, "B.Login", login).await.unwrap();
    assert_eq!(login, json!({ "replaced": true }));
    within("the end", old.closed()).await;
}

#[tokio::test]
async fn a_standalone_node_replaces_and_leaves_no_trace() {
    let ended = Ended::default();
    let app = saves_slowly(replace(App::new().component(U)), &ended).tcp("127.0.0.1:0");
    let node = TestNode::start(app).await;
    let login = json!({ "user": 7, "mode": "login" });
    let mut before = None;
    let mut ids = HashSet::new();
    for turn in 0..3 {
        let client = node.client().await;
        let answer = ask(&client, "U.Login", login.clone()).await.unwrap();
        assert_eq!(answer, json!({ "replaced": turn > 0 }));
        assert_eq!(ended.lock().len(), turn);
        ids.insert(node.handle().sessions_by_uid(7)[0].id());
        before = Some(client);
    }
    assert_eq!(ids.len(), 3);
    for illegal in [json!(""), json!(0)] {
        let login = json!({ "user": illegal, "mode": "login" });
        let error = ask(before.as_ref().unwrap(), "U.Login", login)
            .await
            .unwrap_err();
        assert_eq!(error.code(), code::BAD_REQUEST);
    }
    drop(before);
    node.has_no_sessions().await;
}

#[tokio::test]
async fn a_session_that_has_ended_cannot_log_in() {
    let node = TestNode::start(replace(App::new().component(U)).tcp("127.0.0.1:0")).await;
    let client = node.client().await;
    ask(&client, "U.Me", json!({})).await.unwrap();
    let session = node.handle().sessions().list().remove(0);
    drop(client);
    node.has_no_sessions().await;
    let error = within("login", session.login(7)).await.unwrap_err();
    assert_eq!(error.code(), code::CLOSED);
}

/// A client that sends a second login before the first is answered.
#[tokio::test]
async fn of_two_logins_of_one_session_at_a_time_one_counts_and_is_granted() {
    let players = Players::start(replace).await;
    let gate = players.gates[0].handle();
    for turn in 0..16 {
        let client = players.gates[0].client().await;
        let sessions = gate.sessions().list();
        let session = sessions.iter().max_by_key(|session| session.id()).unwrap();
        // The last two users are one.
        let users = [
            format!("a{turn}"),
            format!("{}{turn}", ["b", "a"][turn / 8]),
        ];
        let logins = users.each_ref().map(|user| session.login(user));
        let [first, second] = within("two logins", join_all(logins))
            .await
            .try_into()
            .unwrap();
        let user = session.user().expect("a user");
        for (of, login) in users.iter().zip([first, second]) {
            let counts = user.text() == Some(of);
            assert!(
                !counts || login.is_ok(),
                "{of} of {users:?}, {user}: {login:?}"
            );
            found(&players.gates[1], &**of, usize::from(counts)).await;
        }
        drop(client);
        eventually("the end", || session.closed().is_some()).await;
    }
}
