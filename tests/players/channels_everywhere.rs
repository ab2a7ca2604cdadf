//! What clients see of channels, broadcasts and shared data, whichever node they ask.

use nano::{code, testing::within};
use serde_json::{Value, json};

use crate::cluster::{Players, ask};

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
