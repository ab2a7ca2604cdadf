//! Which requests are served.

use std::net::SocketAddr;

use nano::{Admin, App};

use crate::{
    harness::{Echo, start},
    http::{JSON, TOKEN, act, admin, get, send},
};

/// The paths of all actions.
async fn actions(address: SocketAddr) -> Vec<String> {
    let document = get(address, "/api/openapi.json").await.ok();
    let paths = document["paths"].as_object().unwrap().iter();
    let actions = paths.filter(|(_, methods)| methods.get("post").is_some());
    actions.map(|(path, _)| path.replace("{id}", "1")).collect()
}

#[tokio::test]
async fn no_action_works_without_the_token() {
    for token in [None, Some("secret")] {
        let mut options = Admin::new("127.0.0.1:0");
        if let Some(token) = token {
            options = options.token(token);
        }
        let node = start(App::new().admin(options).component(Echo)).await;
        let address = admin(&node);
        let actions = actions(address).await;
        assert!(actions.len() >= 7, "{actions:?}");
        for path in &actions {
            let bare = send(address, "POST", path, &[JSON], "{}").await;
            let expected = if token.is_some() { 401 } else { 403 };
            assert_eq!(bare.status, expected, "{path}");
            let wrong = ["Authorization: Bearer secre", JSON];
            let wrong = send(address, "POST", path, &wrong, "{}").await;
            assert_eq!(
                (wrong.status, wrong.code()),
                (401, "UNAUTHORIZED".to_owned())
            );
            assert!(wrong.head.contains("www-authenticate: bearer"));
            assert_eq!(
                get(address, path).await.status,
                if token.is_some() { 401 } else { 403 }
            );
        }
        assert!(!node.handle().is_shutting_down());
        assert!(node.handle().deny_list().networks().is_empty());
        node.shutdown().await;
    }
}

#[tokio::test]
async fn loopback_reads_need_no_token_and_a_wrong_one_is_refused() {
    let node = start(App::new().admin(Admin::new("127.0.0.1:0").token("secret"))).await;
    let address = admin(&node);
    for path in [
        "/metrics",
        "/api/v1/node",
        "/api/v1/members",
        "/api/v1/metrics",
    ] {
        assert_eq!(get(address, path).await.status, 200, "{path}");
        let right = send(address, "GET", path, &[TOKEN], "").await;
        assert_eq!(right.status, 200, "{path}");
        for wrong in [
            "Authorization: Bearer other",
            "Authorization: Basic c2VjcmV0",
            "Authorization:",
        ] {
            let wrong = send(address, "GET", path, &[wrong], "").await;
            assert_eq!(wrong.status, 401, "{path}");
        }
    }
    node.shutdown().await;
}

#[tokio::test]
async fn reads_by_a_proxy_or_a_rebound_name_are_refused() {
    let node = start(App::new().admin("127.0.0.1:0")).await;
    let address = admin(&node);
    for header in [
        "Host: evil.example",
        "X-Forwarded-For: 192.0.2.1",
        "Forwarded: for=192.0.2.1",
    ] {
        let refused = send(address, "GET", "/api/v1/node", &[header], "").await;
        assert_eq!(
            (refused.status, refused.code()),
            (403, "FORBIDDEN".to_owned()),
            "{header}"
        );
    }
    // Probes and load balancers use names.
    let probe = send(address, "GET", "/readyz", &["Host: node.example"], "").await;
    assert_eq!(probe.status, 200);
    node.shutdown().await;
}

#[tokio::test]
async fn pages_of_other_sites_can_neither_read_nor_act() {
    let node = start(App::new().admin(Admin::new("127.0.0.1:0").token("secret"))).await;
    let address = admin(&node);
    for header in [
        "Origin: http://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
    ] {
        let read = send(address, "GET", "/api/v1/node", &[header], "").await;
        assert_eq!(read.status, 403, "{header}");
        let acted = send(
            address,
            "POST",
            "/api/v1/drain",
            &[header, TOKEN, JSON],
            "{}",
        )
        .await;
        assert_eq!(acted.status, 403, "{header}");
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let header = format!("Content-Type: {content_type}");
        let acted = send(address, "POST", "/api/v1/drain", &[&header, TOKEN], "{}").await;
        assert_eq!((acted.status, acted.code()), (415, "MEDIA_TYPE".to_owned()));
    }
    assert!(!node.handle().is_shutting_down());
    let own = format!("Origin: http://{address}");
    let acted = send(address, "POST", "/api/v1/drain", &[&own, TOKEN, JSON], "{}").await;
    assert_eq!(acted.status, 200);
    node.stopped().await;
}

#[tokio::test]
async fn bad_requests_are_named_in_json() {
    let node = start(App::new().admin(Admin::new("127.0.0.1:0").token("secret"))).await;
    let address = admin(&node);
    let cases = [
        ("GET", "/api/v1/nodes", 404),
        ("GET", "/api/v1/sessions/1/2/3", 404),
        ("GET", "//", 404),
        ("GET", "/api/v1/invoke?method=shutdown", 404),
        ("POST", "/api/v1/node", 405),
        ("DELETE", "/api/v1/sessions/1", 405),
        ("GET", "/api/v1/sessions/x", 400),
        ("GET", "/api/v1/sessions/99999999999999999999", 400),
        ("GET", "/api/v1/sessions/-1", 404),
        ("GET", "/api/v1/sessions?limit=0", 400),
        ("GET", "/api/v1/sessions?limit=501", 400),
        ("GET", "/api/v1/sessions?limit=1&limit=2", 400),
        ("GET", "/api/v1/sessions?after=-1", 400),
        ("GET", "/api/v1/sessions?nonsense=1", 400),
        ("GET", "/api/v1/sessions?user=%ff", 400),
        ("GET", "/api/v1/node?x", 400),
        ("GET", "/api/v1/warnings", 404),
    ];
    for (method, path, status) in cases {
        let answer = send(address, method, path, &[], "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(
            answer.head.contains("content-type: application/json"),
            "{path}"
        );
        answer.code();
    }
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "{\"user\":true}",
        "{\"user\":7,\"extra\":1}",
        "{\"user\":7}x",
        "\u{0}",
    ];
    for body in bodies {
        let answer = act(address, "/api/v1/users/kick", body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, "BAD_REQUEST".to_owned()),
            "{body}"
        );
    }
    let long = format!("{{\"reason\":\"{}\"}}", "x".repeat(256));
    assert_eq!(
        act(address, "/api/v1/sessions/1/kick", &long).await.status,
        400
    );
    assert_eq!(
        act(address, "/api/v1/sessions/1/kick", "{}").await.status,
        404
    );
    node.shutdown().await;
}
