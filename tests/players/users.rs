use nano::{
    App, Unique, UserId, code,
    testing::{TestNode, eventually, within},
};
use serde_json::json;

use crate::{
    cluster::{Players, ask, found, next},
    players::U,
};

#[tokio::test]
async fn any_node_finds_a_user_pushes_to_it_and_kicks_it() {
    let players = Players::start(|app| app).await;
    let [gate, _] = &players.gates;
    let ann = gate.client().await;
    ask(&ann, "U.Login", json!({ "user": "ann" }))
        .await
        .unwrap();
    let mut news = ann.subscribe("onNews");
    let nodes = players.nodes();
    for (at, node) in nodes.iter().enumerate() {
        let user = node.handle().user("ann");
        let found = found(node, "ann", 1).await;
        assert_eq!(found[0].gate, gate.address());
        within("push", user.push("onNews", &at)).await.unwrap();
        assert_eq!(next(&mut news).await, at);

        let other = node.handle().user(7);
        assert_eq!(within("locate", other.locate()).await.unwrap(), []);
        let error = within("push", other.push("onNews", &at)).await.unwrap_err();
        assert_eq!(error.code(), code::NOT_FOUND);
        assert!(!within("kick", other.kick("no")).await.unwrap());
        let error = within("push", node.handle().user("").push("onNews", &at))
            .await
            .unwrap_err();
        assert_eq!(error.code(), code::BAD_REQUEST);
    }
    assert!(
        within("kick", nodes[4].handle().user("ann").kick("enough"))
            .await
            .unwrap()
    );
    within("the end", ann.closed()).await;
    assert_eq!(ann.kick().unwrap().reason, "enough");
    gate.has_no_sessions().await;
    found(nodes[3], "ann", 0).await;
}

#[tokio::test]
async fn a_push_to_users_reaches_all_that_are_online_once_and_names_the_others() {
    let players = Players::start(|app| app).await;
    let mut clients = Vec::new();
    for number in 1..=40 {
        let client = players.gates[number as usize % 2].client().await;
        ask(&client, "U.Login", json!({ "user": number }))
            .await
            .unwrap();
        let pushes = client.subscribe("onNews");
        clients.push((client, pushes));
    }
    for number in 1..=40 {
        found(players.nodes()[0], number, 1).await;
    }
    let offline = [UserId::from(99), "ann".into()];
    for (round, node) in players
        .nodes()
        .into_iter()
        .chain(players.nodes())
        .enumerate()
    {
        // Twice, which counts once.
        let users = (1..=40)
            .map(UserId::from)
            .chain(offline.clone())
            .chain([1.into(), "ann".into()]);
        let missed = within("push", node.handle().users(users).push("onNews", &round))
            .await
            .unwrap();
        assert_eq!(missed, offline);
        for (_, pushes) in &mut clients {
            assert_eq!(next(pushes).await, round);
        }
    }
}

#[tokio::test]
async fn a_push_reaches_sessions_that_a_user_has_opened_since_the_last_one() {
    let players = Players::start(|app| app).await;
    let [backend, _] = &players.backends;
    let user = backend.handle().user("ann");
    let mut sessions = Vec::new();
    // Both gates, and both streams of the links to them.
    for opened in 1..=6 {
        let client = players.gates[usize::from(opened > 4)].client().await;
        ask(&client, "U.Login", json!({ "user": "ann" }))
            .await
            .unwrap();
        let news = client.subscribe("onNews");
        sessions.push((client, news));
        found(backend, "ann", opened).await;
        within("push", user.push("onNews", &opened)).await.unwrap();
        for (_, news) in &mut sessions {
            assert_eq!(next(news).await, opened);
        }
    }
}

#[tokio::test]
async fn a_user_that_has_moved_is_found_at_the_next_gate() {
    // Under unique users its place is remembered.
    let players = Players::start(|app| app.unique_users(Unique::Replace)).await;
    let [a, _] = &players.backends;
    for turn in 0..4 {
        let gate = &players.gates[turn % 2];
        let ann = gate.client().await;
        ask(&ann, "U.Login", json!({ "user": "ann" }))
            .await
            .unwrap();
        let mut news = ann.subscribe("onNews");
        let user = a.handle().user("ann");
        found(a, "ann", 1).await;
        within("push", user.push("onNews", &turn)).await.unwrap();
        assert_eq!(next(&mut news).await, turn);
        drop((ann, news));
        gate.has_no_sessions().await;
    }
    let error = within("push", a.handle().user("ann").push("onNews", &9))
        .await
        .unwrap_err();
    assert_eq!(error.code(), code::NOT_FOUND);
}

#[tokio::test]
async fn a_push_to_a_user_whose_gate_has_died_fails_and_says_why() {
    let mut players = Players::start(|app| app).await;
    let client = players.gates[0].client().await;
    ask(&client, "U.Login", json!({ "user": "ann" }))
        .await
        .unwrap();
    found(&players.backends[0], "ann", 1).await;
    let user = players.backends[0].handle().user("ann");
    within("push", user.push("onNews", &1)).await.unwrap();
    players.gates[0].kill();
    // Until the gate is evicted the directory has it.
    let error = within("push", user.push("onNews", &2)).await.unwrap_err();
    assert_eq!(error.code(), code::UNAVAILABLE);
}

#[tokio::test]
async fn a_standalone_node_finds_its_users_too() {
    let node = TestNode::start(App::new().component(U).tcp("127.0.0.1:0")).await;
    let (ann, ben) = (node.client().await, node.client().await);
    ask(&ann, "U.Login", json!({ "user": "ann" }))
        .await
        .unwrap();
    ask(&ben, "U.Login", json!({ "user": 7 })).await.unwrap();
    let mut news = ann.subscribe("onNews");
    let place = ask(&ben, "U.Where", json!({ "user": "ann" }))
        .await
        .unwrap();
    assert_eq!(place, json!({ "gate": node.client_address().to_string() }));
    let push = json!({ "users": ["ann", 7, 8], "route": "onNews", "body": { "x": 1 } });
    assert_eq!(
        ask(&ben, "U.Push", push).await.unwrap(),
        json!({ "missed": [8] })
    );
    assert_eq!(next(&mut news).await, json!({ "x": 1 }));
    let kick = json!({ "user": "ann", "reason": "enough" });
    assert_eq!(
        ask(&ben, "U.Kick", kick.clone()).await.unwrap(),
        json!({ "found": true })
    );
    eventually("the end", || node.handle().sessions().count() == 1).await;
    assert_eq!(
        ask(&ben, "U.Kick", kick).await.unwrap(),
        json!({ "found": false })
    );
    let place = ask(&ben, "U.Where", json!({ "user": "ann" }))
        .await
        .unwrap();
    assert_eq!(place, json!({ "gate": null }));
}
