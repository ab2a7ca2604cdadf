use nano::{
    App, UserId, code,
    testing::{TestNode, eventually},
};
use serde_json::json;

use crate::{
    cluster::{Players, ask, me},
    players::U,
};

#[tokio::test]
async fn a_text_bound_on_a_backend_is_the_user_on_every_node_of_the_session() {
    let players = Players::start(|app| app).await;
    let client = players.gates[0].client().await;
    assert_eq!(me(&client, "B").await, json!(null));
    let mut before = None;
    for user in [json!("ann-1"), json!(7), json!("7"), json!("ä".repeat(127))] {
        ask(&client, "A.Login", json!({ "user": user }))
            .await
            .unwrap();
        for service in ["A", "Gate"] {
            assert_eq!(me(&client, service).await, user);
        }
        let id: UserId = serde_json::from_value(user).unwrap();
        for node in [
            &players.gates[0],
            &players.backends[0],
            &players.backends[1],
        ] {
            eventually("the user to be known", || {
                node.handle().sessions_by_user(&id).len() == 1
            })
            .await;
            let left = before.iter();
            let left = left.flat_map(|id: &UserId| node.handle().sessions_by_user(id));
            assert_eq!(left.count(), 0);
        }
        before = Some(id);
    }
}

#[tokio::test]
async fn an_id_that_no_user_can_have_is_refused_and_changes_nothing() {
    let node = TestNode::start(App::new().component(U).tcp("127.0.0.1:0")).await;
    let client = node.client().await;
    ask(&client, "U.Login", json!({ "user": "ann" }))
        .await
        .unwrap();
    for user in [
        json!(""),
        json!("x".repeat(256)),
        json!(0),
        json!(-1),
        json!(null),
        json!(1.5),
    ] {
        let error = ask(&client, "U.Login", json!({ "user": user }))
            .await
            .unwrap_err();
        assert_eq!(error.code(), code::BAD_REQUEST, "{user}");
        assert_eq!(me(&client, "U").await, json!("ann"));
    }
    ask(&client, "U.Login", json!({ "user": "x".repeat(255) }))
        .await
        .unwrap();
    drop(client);
    node.has_no_sessions().await;
}
