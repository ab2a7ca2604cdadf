//! The reports of the API.

use std::time::Duration;

use nano::{App, Group, Limits, RateLimit, Timeouts, WarningLog};
use serde_json::{Value, json};

use crate::{
    harness::{Client, Echo, greeting, start},
    http::{admin, get},
    support::within,
};

#[tokio::test]
async fn the_node_describes_itself() {
    let drain = Timeouts::new().drain(Duration::from_secs(90));
    let app = App::new().admin("127.0.0.1:0").component(Echo);
    let node = start(app.timeouts(drain).version("1.4.2")).await;
    let report = get(admin(&node), "/api/v1/node").await.ok();
    assert_eq!(report["drain_seconds"], 90);
    assert_eq!(report["version"], "1.4.2");
    assert_eq!(report["library_version"], nano::VERSION);
    assert_eq!(report["role"], "standalone");
    assert_eq!(report["ready"], true);
    assert_eq!(report["services"], json!(["Echo"]));
    assert_eq!(
        report["listeners"],
        json!([node.addresses()[0].to_string()])
    );
    assert_eq!(report["admin"], admin(&node).to_string());
    assert_eq!(report["process"], std::process::id());
    let members = get(admin(&node), "/api/v1/members").await.ok();
    assert_eq!(members, json!({"members": []}));
    node.shutdown().await;
}

#[tokio::test]
async fn sessions_are_paged_searched_and_inspected() {
    let node = start(App::new().admin("127.0.0.1:0").component(Echo)).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::connect(&node).await);
    }
    let session = clients[2].session(&node).await;
    session.bind(77).unwrap();
    let group: Group = Group::new("room 7");
    group.add(&session).unwrap();

    let list = async |query: &str| {
        let path = format!("/api/v1/sessions{query}");
        get(admin(&node), &path).await.ok()
    };
    let ids = |page: &Value| -> Vec<i64> {
        let sessions = page["sessions"].as_array().unwrap().iter();
        sessions
            .map(|session| session["id"].as_i64().unwrap())
            .collect()
    };
    let all = list("").await;
    assert_eq!((all["total"].as_i64(), ids(&all).len()), (Some(5), 5));
    let (mut paged, mut after) = (Vec::new(), Some(0));
    while let Some(id) = after {
        let page = list(&format!("?limit=2&after={id}")).await;
        paged.extend(ids(&page));
        after = page["next"].as_i64();
    }
    assert_eq!(paged, ids(&all));

    assert_eq!(ids(&list("?user=77").await), [session.id()]);
    assert_eq!(ids(&list("?user=78").await), [0; 0]);
    let address = session.remote_addr().unwrap();
    assert_eq!(
        ids(&list(&format!("?address={address}")).await),
        [session.id()]
    );
    assert_eq!(ids(&list("?address=127.0.0.").await).len(), 5);
    assert_eq!(ids(&list("?address=192.0.2.").await), [0; 0]);

    let path = format!("/api/v1/sessions/{}", session.id());
    let report = get(admin(&node), &path).await.ok();
    assert_eq!(report["user"], 77);
    assert_eq!(report["client"], "local");
    assert_eq!(report["groups"], json!(["room 7"]));
    assert_eq!(report["bindings"], json!({}));
    assert_eq!(report["address"], address.to_string());
    assert_eq!(report["queue_bytes"], 0);
    node.shutdown().await;
}

#[tokio::test]
async fn warnings_are_listed_with_the_latest_first() {
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt;
    let log = WarningLog::new();
    let options = nano::Admin::new("127.0.0.1:0").warnings(&log);
    let node = start(App::new().admin(options)).await;
    with_default(tracing_subscriber::registry().with(log), || {
        tracing::warn!(peer = "b", "peer suspected");
        tracing::error!("listener failed");
    });
    let report = get(admin(&node), "/api/v1/warnings").await.ok();
    assert_eq!(report["warnings"][0]["message"], "listener failed");
    assert_eq!(report["warnings"][1]["message"], "peer suspected");
    assert_eq!(report["warnings"][1]["fields"], "peer=\"b\"");
    let later = get(admin(&node), "/api/v1/warnings?after=2").await.ok();
    assert_eq!(later["warnings"], json!([]));
    for after in ["-1", "x", "1.5", "9223372036854775808"] {
        let refused = get(admin(&node), &format!("/api/v1/warnings?after={after}")).await;
        assert_eq!(refused.code(), "BAD_REQUEST", "{after}");
    }
    node.shutdown().await;
}

#[tokio::test]
async fn queues_and_the_api_description_are_there() {
    let node = start(App::new().admin("127.0.0.1:0").component(Echo)).await;
    let _client = Client::connect(&node).await;
    let queues = get(admin(&node), "/api/v1/queues").await.ok();
    assert_eq!(queues["scheduler_tasks"], 0);
    assert_eq!(queues["client_requests"], 0);
    let description = get(admin(&node), "/api/openapi.json").await.ok();
    assert_eq!(description["openapi"], "3.1.0");
    let metrics = get(admin(&node), "/api/v1/metrics").await.ok();
    assert!(metrics["samples"].as_array().unwrap().len() > 20);
    node.shutdown().await;
}

#[tokio::test]
async fn a_client_that_is_alone_floods_when_it_sends_all_that_its_rate_limit_lets_through() {
    let limits = Limits::new().rate_limit(RateLimit::throttle(60, 60));
    let app = App::new().admin("127.0.0.1:0").component(Echo);
    let node = start(app.limits(limits)).await;
    let mut client = Client::connect(&node).await;
    let session = client.session(&node).await;
    session.bind("ann").unwrap();
    let floods = async || {
        let report = get(admin(&node), "/api/v1/cluster").await.ok();
        report["members"][0]["summary"]["floods"].clone()
    };
    assert_eq!(floods().await, json!([]));
    let flooding = async {
        loop {
            let mut requests = Vec::new();
            for _ in 0..20 {
                requests.push(client.request("Echo.Echo", "hello").await);
            }
            for request in requests {
                client.answer(request).await.unwrap();
            }
            if let Some(flood) = floods().await.get(0) {
                return flood.clone();
            }
        }
    };
    let flood = within("the flood", flooding).await;
    assert_eq!(flood["session"], session.id());
    assert_eq!(flood["user"], "ann");
    node.shutdown().await;
}

#[tokio::test]
async fn the_client_that_sends_most_is_first_among_the_busiest() {
    let node = start(App::new().admin("127.0.0.1:0").component(Echo)).await;
    let mut quiet = Client::connect(&node).await;
    let mut busy = Client::connect(&node).await;
    let silent = Client::connect(&node).await;
    let expected = busy.session(&node).await.id();
    let silent = silent.session(&node).await.id();
    let first = get(admin(&node), "/api/v1/busiest").await.ok();
    assert_eq!(first, json!({"seconds": 0.0, "sending": 0, "sessions": []}));
    let deadline = tokio::time::Instant::now() + crate::support::DEADLINE;
    loop {
        quiet.ask("Echo.Echo", "x").await.unwrap();
        for _ in 0..10 {
            busy.ask("Echo.Echo", "x").await.unwrap();
        }
        let report = get(admin(&node), "/api/v1/busiest").await.ok();
        if report["seconds"].as_f64().unwrap() >= 1.0 {
            let sessions = report["sessions"].as_array().unwrap();
            assert_eq!((sessions.len(), &report["sending"]), (2, &json!(2)));
            assert_eq!(sessions[0]["id"], expected);
            let rate = |at: usize| sessions[at]["messages_per_second"].as_f64().unwrap();
            assert!(rate(0) > 5.0 * rate(1), "{report}");
            let sends = async |id: i64| {
                let path = format!("/api/v1/sessions/{id}");
                get(admin(&node), &path).await.ok()["messages_per_second"].clone()
            };
            assert_eq!(sends(expected).await, sessions[0]["messages_per_second"]);
            assert_eq!(sends(silent).await, 0.0);
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{report}");
    }
    node.shutdown().await;
}

#[tokio::test]
async fn a_session_shows_how_much_its_client_has_sent_and_was_sent() {
    let node = start(App::new().admin("127.0.0.1:0").component(Echo)).await;
    let mut client = Client::connect(&node).await;
    let path = format!("/api/v1/sessions/{}", client.session(&node).await.id());
    let totals = async || {
        let report = get(admin(&node), &path).await.ok();
        let keys = [
            "messages_received",
            "bytes_received",
            "messages_sent",
            "bytes_sent",
        ];
        keys.map(|key| report[key].as_u64().unwrap())
    };
    let [messages, bytes, ..] = totals().await;
    assert_eq!(messages, 0);
    // What was read before there was a session, too.
    assert!(bytes >= greeting().len() as u64, "{bytes}");
    // The handshake's reply is counted when it is written, a moment after it has arrived.
    let before = within("the handshake's reply", async {
        loop {
            let totals = totals().await;
            if totals[3] > 0 {
                break totals;
            }
        }
    })
    .await;
    for _ in 0..10 {
        client.ask("Echo.Echo", "x".repeat(1000)).await.unwrap();
    }
    within("all counts", async {
        loop {
            let now = totals().await;
            let [messages, received, packets, sent] =
                std::array::from_fn(|at| now[at] - before[at]);
            assert_eq!(messages, 10);
            assert!((10_000..11_000).contains(&received), "{received}");
            if packets >= 10 && sent >= 10_000 {
                assert!(packets < 13 && sent < 11_000, "{now:?}");
                break;
            }
        }
    })
    .await;
    node.shutdown().await;
}

#[tokio::test]
async fn users_groups_and_channels_are_listed_in_pages() {
    let node = start(App::new().admin("127.0.0.1:0").component(Echo)).await;
    let (room, unnamed): (Group, Group) = (Group::new("room"), Group::new(""));
    let mut clients = Vec::new();
    for number in 0..5 {
        let client = Client::connect(&node).await;
        let session = client.session(&node).await;
        match number {
            0 | 1 => session.bind(7).unwrap(),
            2 => session.bind(12).unwrap(),
            3 => session.bind("7").unwrap(),
            _ => {}
        }
        room.add(&session).unwrap();
        let lobby = node.handle().channel("lobby");
        lobby.join(&session).await.unwrap();
        clients.push((client, session));
    }
    let first = &clients[0].1;
    unnamed.add(first).unwrap();
    let guild = node.handle().channel("guild");
    guild.join(first).await.unwrap();
    guild.publish("onNews", &1).await.unwrap();

    let get = async |path: &str| get(admin(&node), &format!("/api/v1/{path}")).await;
    let users = get("users?limit=2").await.ok();
    let ids = [first.id(), clients[1].1.id()];
    assert_eq!(users["users"][0], json!({"user": 7, "sessions": ids}));
    assert_eq!(users["users"][1]["user"], 12);
    assert_eq!((&users["next"], &users["total"]), (&json!("12"), &json!(3)));
    let rest = get("users?limit=2&after=12").await.ok();
    assert_eq!(rest["users"][0]["user"], "7");
    assert_eq!(rest["users"].as_array().unwrap().len(), 1);
    assert_eq!(rest["next"], Value::Null);
    let none = get("users?after=%227%22").await.ok();
    assert_eq!(none["users"], json!([]));

    let groups = get("groups").await.ok();
    let expected = json!([{"group": "", "members": 1}, {"group": "room", "members": 5}]);
    assert_eq!(
        (&groups["groups"], &groups["complete"]),
        (&expected, &json!(true))
    );
    let page = get("groups?limit=1").await.ok();
    assert_eq!(page["next"], "");
    let page = get("groups?limit=1&after=").await.ok();
    assert_eq!(page["groups"][0]["group"], "room");
    let inspected = get(&format!("sessions/{}", first.id())).await.ok();
    assert_eq!(inspected["groups"], json!(["room", ""]));

    let channels = get("channels").await.ok();
    assert_eq!(channels["total"], 2);
    let (guild, lobby) = (&channels["channels"][0], &channels["channels"][1]);
    assert_eq!(
        (&guild["channel"], &guild["members"]),
        (&json!("guild"), &json!(1))
    );
    assert_eq!(
        (&lobby["channel"], &lobby["members"]),
        (&json!("lobby"), &json!(5))
    );
    assert_eq!(guild["offset"], 1);
    assert!(guild["owner"].is_string(), "{guild}");
    let page = get("channels?limit=1&after=guild").await.ok();
    assert_eq!(
        (&page["channels"][0]["channel"], &page["next"]),
        (&json!("lobby"), &json!("lobby"))
    );

    for path in [
        "users?after=ann",
        "users?after=%7B%7D",
        "users?limit=0",
        "groups?limit=501",
        "channels?limit=x",
        "channels?user=7",
    ] {
        assert_eq!(get(path).await.code(), "BAD_REQUEST", "{path}");
    }
    node.shutdown().await;
}
