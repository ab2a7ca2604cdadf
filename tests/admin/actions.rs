//! What an operator can change.

use nano::{Admin, App, Error};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::{
    harness::{Client, Echo, start},
    http::{act, admin, get},
    support::eventually,
};

fn app() -> App {
    App::new()
        .admin(Admin::new("127.0.0.1:0").token("secret"))
        .component(Echo)
}

#[tokio::test]
async fn a_session_and_a_user_are_kicked_with_the_reason() {
    let node = start(app()).await;
    let (one, two) = (Client::connect(&node).await, Client::connect(&node).await);
    let (first, second) = (one.session(&node).await, two.session(&node).await);
    second.bind(7).unwrap();
    let path = format!("/api/v1/sessions/{}/kick", first.id());
    let kicked = act(admin(&node), &path, r#"{"reason":"enough"}"#)
        .await
        .ok();
    assert_eq!(kicked, json!({"kicked": 1}));
    eventually("the session closed", || first.closed().is_some()).await;
    assert_eq!(first.closed().unwrap().to_string(), "kicked: enough");
    assert_eq!(act(admin(&node), &path, "{}").await.status, 404);

    let user = act(admin(&node), "/api/v1/users/kick", r#"{"user":8}"#).await;
    assert_eq!(user.status, 404);
    let user = act(admin(&node), "/api/v1/users/kick", r#"{"user":0}"#).await;
    assert_eq!(user.status, 404);
    let kicked = act(admin(&node), "/api/v1/users/kick", r#"{"user":7}"#).await;
    assert_eq!(kicked.ok(), json!({"kicked": 1}));
    eventually("the user's session closed", || second.closed().is_some()).await;
    node.shutdown().await;
}

#[tokio::test]
async fn networks_are_denied_and_allowed_again() {
    let node = start(app()).await;
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let networks = r#"{"networks":["127.0.0.0/8","2001:db8::/32"]}"#;
    let denied = act(admin(&node), "/api/v1/denied/add", networks).await.ok();
    assert_eq!(
        denied,
        json!({"networks": ["127.0.0.0/8", "2001:db8::/32"]})
    );
    eventually("the session closed", || session.closed().is_some()).await;
    assert_eq!(get(admin(&node), "/api/v1/denied").await.ok(), denied);
    let left = act(admin(&node), "/api/v1/denied/remove", networks)
        .await
        .ok();
    assert_eq!(left, json!({"networks": []}));
    node.shutdown().await;
}

#[tokio::test]
async fn networks_that_are_none_or_too_many_change_nothing() {
    let node = start(app()).await;
    let many = |count| json!({"networks": vec!["192.0.2.1"; count]}).to_string();
    let change = async |path: &str, networks: &str| {
        let path = format!("/api/v1/denied/{path}");
        act(admin(&node), &path, networks).await
    };
    let denied = change("add", &many(1000)).await.ok();
    assert_eq!(denied, json!({"networks": ["192.0.2.1/32"]}));
    for networks in [
        r#"{"networks":[]}"#,
        r#"{"networks":["192.0.2.1","here"]}"#,
        r#"{"networks":["192.0.2.1","192.0.2.0/33"]}"#,
        r#"{"networks":"192.0.2.1"}"#,
        &many(1001),
    ] {
        for path in ["add", "remove"] {
            let status = change(path, networks).await.status;
            assert_eq!(status, 400, "{path} {networks:.60}");
        }
    }
    assert_eq!(get(admin(&node), "/api/v1/denied").await.ok(), denied);
    assert_eq!(
        change("remove", &many(1000)).await.ok(),
        json!({"networks": []})
    );
    node.shutdown().await;
}

#[tokio::test]
async fn the_log_filter_is_given_to_the_application() {
    let filters = Arc::new(Mutex::new(Vec::new()));
    let (taken, read) = (filters.clone(), filters.clone());
    let options = Admin::new("127.0.0.1:0")
        .token("secret")
        .on_log_filter(move |filter| match filter {
            "wrong" => Err(Error::bad_request("no such level")),
            filter => {
                taken.lock().push(filter.to_owned());
                Ok(())
            }
        })
        .log_filter(move || read.lock().last().cloned().unwrap_or("info".to_owned()));
    let node = start(App::new().admin(options)).await;
    let set = async |filter: &str| {
        let body = json!({"filter": filter}).to_string();
        act(admin(&node), "/api/v1/log-filter", &body).await
    };
    let in_force = async || get(admin(&node), "/api/v1/node").await.ok()["log_filter"].clone();
    assert_eq!(in_force().await, "info");
    assert_eq!(
        set("nano=debug").await.ok(),
        json!({"filter": "nano=debug", "before": "info", "current": "nano=debug"})
    );
    assert_eq!(in_force().await, "nano=debug");
    for empty in ["", " "] {
        assert_eq!(set(empty).await.status, 400, "{empty:?}");
    }
    let wrong = set("wrong").await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.json()["message"], "no such level");
    assert_eq!(*filters.lock(), ["nano=debug"]);
    node.shutdown().await;

    let node = start(app()).await;
    let report = get(admin(&node), "/api/v1/node").await.ok();
    assert_eq!(report["log_filter"], Value::Null);
    let body = r#"{"filter":"debug"}"#;
    let refused = act(admin(&node), "/api/v1/log-filter", body).await;
    assert_eq!(
        (refused.status, refused.code()),
        (404, "UNSUPPORTED".to_owned())
    );
    node.shutdown().await;
}

#[tokio::test]
async fn only_objects_are_bodies_of_actions() {
    let node = start(app()).await;
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    session.bind(7).unwrap();
    let kick = format!("/api/v1/sessions/{}/kick", session.id());
    for path in [
        &kick,
        "/api/v1/users/kick",
        "/api/v1/denied/add",
        "/api/v1/denied/remove",
        "/api/v1/log-filter",
        "/api/v1/reload",
        "/api/v1/drain",
    ] {
        for body in [
            "",
            " ",
            "[]",
            "[7]",
            "[[\"127.0.0.1\"]]",
            "null",
            "0",
            "\"x\"",
            "{",
        ] {
            let refused = act(admin(&node), path, body).await;
            // What the application does not offer is not found, whatever the body is.
            let status = match path {
                "/api/v1/log-filter" => 404,
                _ => 400,
            };
            assert_eq!(refused.status, status, "{path} {body}");
        }
    }
    assert!(node.handle().is_ready());
    assert_eq!(session.closed(), None);
    node.shutdown().await;
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_named_by_its_key() {
    let node = start(app()).await;
    for (path, body, named) in [
        ("/api/v1/users/kick", r#"{"user": {}}"#, "not valid: user: "),
        (
            "/api/v1/users/kick",
            r#"{"user": 7, "reason": 7}"#,
            "not valid: reason: invalid type",
        ),
        (
            "/api/v1/users/kick",
            r#"{"reason": "x"}"#,
            "not valid: missing field `user`",
        ),
        (
            "/api/v1/denied/add",
            r#"{"networks": ["::1", 7]}"#,
            "not valid: networks[1]: invalid type",
        ),
        (
            "/api/v1/drain",
            r#"{"seconds": "600"}"#,
            "not valid: seconds: invalid type",
        ),
        ("/api/v1/drain", r#"{"secs": 600}"#, "unknown field `secs`"),
        ("/api/v1/drain", r#"{"seconds": 600"#, "EOF while parsing"),
        (
            "/api/v1/drain",
            r#"{"seconds": 600} {}"#,
            "trailing characters",
        ),
    ] {
        let refused = act(admin(&node), path, body).await;
        let message = refused.json()["message"].to_string();
        assert_eq!(refused.status, 400, "{body}");
        assert!(message.contains(named), "{body}: {message}");
    }
    assert!(node.handle().is_ready());
    node.shutdown().await;
}

#[tokio::test]
async fn a_drained_node_stops_in_order() {
    let node = start(app()).await;
    let client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let drain = async |body: &str| act(admin(&node), "/api/v1/drain", body).await;
    for seconds in ["604801", "-1", "1.5", "\"600\"", "null"] {
        let body = format!("{{\"seconds\":{seconds}}}");
        assert_eq!(drain(&body).await.status, 400, "{seconds}");
    }
    assert!(node.handle().is_ready());
    // For a week, and then at once.
    drain(r#"{"seconds":604800}"#).await.ok();
    assert!(!node.handle().is_ready());
    assert_eq!(session.closed(), None);
    drain("{}").await.ok();
    node.stopped().await;
    assert!(session.closed().is_some());
}

#[cfg(feature = "config")]
#[tokio::test]
async fn a_configuration_is_reloaded() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    let write = |deny: &str| {
        let text =
            format!("deny = {deny}\n[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"secret\"\n");
        std::fs::write(&file, text).unwrap();
    };
    write("[]");
    let config = nano::Config::load(&file).unwrap();
    let node = start(App::new().config(&config).component(Echo)).await;
    write("[\"192.0.2.0/24\"]");
    let reloaded = act(admin(&node), "/api/v1/reload", "{}").await.ok();
    assert_eq!(reloaded, json!({"reloaded": true, "needs_restart": []}));
    assert_eq!(node.handle().deny_list().networks().len(), 1);
    write("[]\nversion = \"2\"");
    for _ in 0..2 {
        let reloaded = act(admin(&node), "/api/v1/reload", "{}").await.ok();
        assert_eq!(reloaded["needs_restart"], json!(["version"]));
    }
    write("7");
    let refused = act(admin(&node), "/api/v1/reload", "{}").await;
    assert_eq!(
        (refused.status, refused.code()),
        (400, "BAD_REQUEST".to_owned())
    );
    node.shutdown().await;

    let node = start(app()).await;
    let refused = act(admin(&node), "/api/v1/reload", "{}").await;
    assert_eq!(
        (refused.status, refused.code()),
        (404, "UNSUPPORTED".to_owned())
    );
    node.shutdown().await;
}
