//! What clients see of channels, broadcasts and shared data, whichever node they ask.

use nano::{
    App, code,
    testing::{TestNode, within},
};
use serde_json::{Value, json};

use crate::{
    cluster::{Players, ask},
    players::U,
};

#[tokio::test]
async fn channels_broadcasts_and_shared_data_are_the_same_wherever_they_are_used() {
    let players = Players::start(|app| app).await;
    let ann = players.gates[0].client().await;
    let ben = players.gates[1].client().await;
    let mut says = [ann.subscribe("onSay"), ben.subscribe("onSay")];
    ask(&ann, "A.Login", json!({ "user": "ann" }))
        .await
        .unwrap();
    ask(&ben, "Gate.Login", json!({ "user": 7 })).await.unwrap();
    let channel = json!({ "channel": "guild.7" });
    let history = json!({ "count": 10, "ttl_ms": 60_000 });
    ask(&ann, "B.Join", channel.clone()).await.unwrap();
    ask(&ben, "Gate.Join", channel.clone()).await.unwrap();
    for service in ["A", "B", "Gate"] {
        let members = ask(&ann, &format!("{service}.Members"), channel.clone()).await;
        let expected = json!({ "users": [7, "ann"], "count": 2 });
        assert_eq!(members.unwrap(), expected);
    }
    let mut at = Value::Null;
    for service in ["A", "B", "Gate"] {
        let say = json!({
            "channel": "guild.7", "route": "onSay", "body": service, "history": history,
        });
        at = ask(&ann, &format!("{service}.Publish"), say).await.unwrap();
        let all = json!({ "route": "onSay", "body": { "all": service } });
        let missed = ask(&ben, &format!("{service}.Broadcast"), all).await;
        assert_eq!(missed.unwrap(), json!({ "missed": [] }));
        for said in &mut says {
            let mut got = Vec::new();
            for _ in 0..2 {
                let next = within("a push", said.recv_as::<Value>()).await;
                got.push(next.unwrap().unwrap());
            }
            // A channel and a broadcast have no order between them.
            got.sort_by_key(Value::is_object);
            assert_eq!(got, [json!(service), json!({ "all": service })]);
        }
    }
    assert_eq!(at["offset"], 3);
    assert_eq!(
        ask(&ann, "A.Leave", channel.clone()).await.unwrap(),
        json!({ "left": true })
    );
    let since = json!({ "epoch": at["epoch"], "offset": 1 });
    let back = json!({ "channel": "guild.7", "since": since });
    let back = ask(&ann, "A.Join", back).await.unwrap();
    assert_eq!(
        back,
        json!({ "epoch": at["epoch"], "offset": 3, "recovered": true })
    );
    for service in ["B", "Gate"] {
        let missed: String = within("what was missed", says[0].recv_as())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(missed, service);
    }

    for (at, service) in ["A", "Gate", "B"].into_iter().enumerate() {
        let share = json!({ "key": service, "value": { "at": at } });
        ask(&ann, &format!("{service}.Share"), share).await.unwrap();
    }
    ask(&ann, "B.Share", json!({ "key": "A", "value": null }))
        .await
        .unwrap();
    for service in ["A", "B", "Gate"] {
        let shared = ask(&ann, &format!("{service}.Shared"), json!({})).await;
        let expected = json!({ "B": { "at": 2 }, "Gate": { "at": 1 } });
        assert_eq!(shared.unwrap(), expected);
    }
    let long = |key: &str| json!({ "key": key, "value": "x".repeat(40_000) });
    ask(&ann, "A.Share", long("first")).await.unwrap();
    for service in ["A", "B", "Gate"] {
        let error = ask(&ann, &format!("{service}.Share"), long("second")).await;
        assert_eq!(error.unwrap_err().code(), code::TOO_LARGE);
    }
}

#[tokio::test]
async fn a_standalone_node_has_shared_data_of_each_session() {
    let node = TestNode::start(App::new().component(U).tcp("127.0.0.1:0")).await;
    let (ann, ben) = (node.client().await, node.client().await);
    for (key, value) in [("hp", json!(7)), ("name", json!("ann")), ("hp", json!(6))] {
        let share = json!({ "key": key, "value": value });
        ask(&ann, "U.Share", share).await.unwrap();
    }
    let shared = async |client| ask(client, "U.Shared", json!({})).await.unwrap();
    assert_eq!(shared(&ann).await, json!({ "hp": 6, "name": "ann" }));
    assert_eq!(shared(&ben).await, json!({}), "of another session");
    let remove = json!({ "key": "name", "value": null });
    ask(&ann, "U.Share", remove).await.unwrap();
    assert_eq!(shared(&ann).await, json!({ "hp": 6 }));

    // Bounded as in a cluster.
    let long = |key: &str, bytes| json!({ "key": key, "value": "x".repeat(bytes) });
    ask(&ann, "U.Share", long("first", 40_000)).await.unwrap();
    let refused = [
        (long("second", 40_000), code::TOO_LARGE),
        (long(&"k".repeat(256), 1), code::BAD_REQUEST),
    ];
    for (share, expected) in refused {
        let error = ask(&ann, "U.Share", share).await.unwrap_err();
        assert_eq!(error.code(), expected);
    }
    let first = "x".repeat(40_000);
    assert_eq!(shared(&ann).await, json!({ "hp": 6, "first": first }));
    let session = node.handle().sessions().list().pop().unwrap();
    drop((ann, ben));
    node.has_no_sessions().await;
    let error = session.shared().set("hp", &5).unwrap_err();
    assert_eq!(error.code(), code::CLOSED);
}

#[tokio::test]
async fn a_standalone_node_binds_services_to_itself_alone() {
    let node = TestNode::start(App::new().component(U).tcp("127.0.0.1:0")).await;
    let client = node.client().await;
    let session = node.handle().sessions().list().pop().unwrap();
    let route = async |service: &str, address: Option<&str>| {
        let route = json!({ "service": service, "address": address });
        ask(&client, "U.Route", route).await
    };
    // It has no address by which members know it.
    route("U", Some("")).await.unwrap();
    assert_eq!(session.router().find("U").as_deref(), Some(""));
    for (service, address) in [("U", "127.0.0.1:1"), ("Room", ""), ("", "")] {
        let error = route(service, Some(address)).await.unwrap_err();
        assert_eq!(error.code(), code::NOT_FOUND, "{service} at {address}");
    }
    assert_eq!(session.router().find("U").as_deref(), Some(""));
    route("U", None).await.unwrap();
    assert_eq!(session.router().find("U"), None);
}
