//! The log of a program that `Config::start_logs` has started: what it writes, and what its operators
//! see and change.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{
    configured::Configured,
    http::{act, get, send},
    support::within,
};

const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"secret\"\n";

async fn start(options: &str) -> (Configured, SocketAddr) {
    let node = Configured::start(options, ADMIN).await;
    let admin = node.address("serving operators at ");
    (node, admin)
}

/// Waits until a node's log filter is this one.
async fn has_filter(admin: SocketAddr, filter: &str) {
    let changed = async {
        while get(admin, "/api/v1/node").await.ok()["log_filter"] != filter {
            tokio::task::yield_now().await;
        }
    };
    within("the log filter", changed).await;
}

#[tokio::test]
async fn operators_see_warnings_and_change_the_filter_until_the_next_reload() {
    let (mut node, admin) = start("log = \"error\"\nlog_format = \"json\"").await;
    has_filter(admin, "error").await;
    // Warnings are collected, though the filter keeps them from the log.
    node.reload("log = \"error\"\nlog_format = \"text\"").await;
    let warned = async {
        loop {
            let warnings = get(admin, "/api/v1/warnings").await.ok();
            if let Some(warning) = warnings["warnings"].get(0) {
                break warning["fields"].to_string();
            }
        }
    };
    let fields = within("a warning", warned).await;
    assert!(fields.contains("log_format"), "{fields}");

    let change = async |filter: &str| {
        let body = format!("{{\"filter\":{filter:?}}}");
        act(admin, "/api/v1/log-filter", &body).await
    };
    let changed = change("info").await.ok();
    let ends = [&changed["before"], &changed["current"]];
    assert_eq!(ends, ["error", "info"]);
    assert_eq!(change("nano=loud").await.status, 400);
    let line = node.line().await;
    let logged: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(logged["message"], "admin: log filter changed", "{line}");
    assert_eq!(
        (&logged["level"], &logged["filter"]),
        (&"WARN".into(), &"info".into())
    );

    node.reload("log = \"warn\"\nlog_format = \"json\"").await;
    has_filter(admin, "warn").await;
}

#[tokio::test]
async fn each_action_and_each_wrong_token_is_logged_also_where_only_warnings_are() {
    let (mut node, admin) = start("log = \"warn\"").await;
    let networks = r#"{"networks":["192.0.2.0/24"]}"#;
    for (path, body, event) in [
        ("/api/v1/denied/add", networks, "networks denied"),
        ("/api/v1/denied/remove", networks, "networks allowed"),
        (
            "/api/v1/log-filter",
            r#"{"filter":"warn"}"#,
            "log filter changed",
        ),
        ("/api/v1/reload", "{}", "configuration reloaded"),
    ] {
        act(admin, path, body).await.ok();
        let line = node.line().await;
        let logged = line.contains(&format!("admin: {event}"));
        assert!(logged && line.contains("peer=127.0.0.1:"), "{line}");
    }
    let guess = ["Authorization: Bearer guess"];
    let refused = send(admin, "GET", "/api/v1/node", &guess, "").await;
    assert_eq!(refused.status, 401);
    let line = node.line().await;
    assert!(line.contains("admin: wrong token"), "{line}");
    assert!(!line.contains("guess"), "{line}");
    let stopped = act(admin, "/api/v1/drain", "{}").await;
    assert_eq!(stopped.status, 200);
    let line = node.line().await;
    assert!(line.contains("admin: node drained"), "{line}");
}

#[tokio::test]
async fn a_reload_that_the_application_refuses_leaves_the_filter_as_it_was() {
    let (mut node, admin) = start("log = \"error\"").await;
    has_filter(admin, "error").await;
    node.reload("log = \"debug\"\n[app]\nrefuse = \"not today\"")
        .await;
    let line = node.line().await;
    assert!(line.contains("configuration not reloaded"), "{line}");
    assert!(line.contains("not today"), "{line}");
    let current = get(admin, "/api/v1/node").await.ok();
    assert_eq!(current["log_filter"], "error");
}

#[tokio::test]
async fn text_has_no_colours_where_the_log_is_no_terminal() {
    let (mut node, _) = start("log = \"info\"").await;
    let line = node.line().await;
    assert!(line.contains(" INFO "), "{line}");
    assert!(!line.contains('\u{1b}'), "{line}");
}

#[tokio::test]
async fn a_filter_that_names_no_level_is_refused_at_the_start() {
    let error = Configured::refused("log = \"inof\"").await;
    assert!(
        error.contains("log: ") && error.contains("did you mean info?"),
        "{error}"
    );
}
