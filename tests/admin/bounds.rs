//! What a peer sends is bounded.

use nano::{Admin, App};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{
    described::check,
    harness::start,
    http::{JSON, TOKEN, act, admin, get, raw},
    support::within,
};

#[tokio::test]
async fn long_paths_heads_and_bodies_are_refused() {
    let node = start(App::new().admin(Admin::new("127.0.0.1:0").token("secret"))).await;
    let address = admin(&node);
    let query = format!("/api/v1/sessions?address={}", "a".repeat(4000));
    let long = get(address, &query).await;
    assert_eq!((long.status, long.code()), (414, "TOO_LARGE".to_owned()));
    let head = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nX: {}\r\n\r\n",
        "a".repeat(100_000)
    );
    let refused = raw(address, head.as_bytes()).await;
    assert_eq!((refused.status, refused.ended), (431, true));
    let many = "X: 1\r\n".repeat(100);
    let many = format!("GET / HTTP/1.1\r\nHost: {address}\r\n{many}\r\n");
    let status = raw(address, many.as_bytes()).await.status;
    assert_eq!(status, 431);
    let body = format!(
        "{{\"networks\":[{}\"10.0.0.0/8\"]}}",
        "\"10.0.0.0/8\",".repeat(6000)
    );
    let large = act(address, "/api/v1/denied/add", &body).await;
    assert_eq!((large.status, large.ended), (413, true));
    assert!(node.handle().deny_list().networks().is_empty());
    assert_eq!(get(address, "/healthz").await.status, 200);
    node.shutdown().await;
}

#[tokio::test]
async fn rubbish_is_refused_and_the_server_goes_on() {
    let node = start(App::new().admin("127.0.0.1:0")).await;
    let address = admin(&node);
    let rubbish: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"POST /api/v1/drain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n",
    ];
    for bytes in rubbish {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().max(16), b'\n');
        let answer = raw(address, &bytes).await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    assert_eq!(get(address, "/healthz").await.status, 200);
    node.shutdown().await;
}

#[tokio::test]
async fn silent_connections_do_not_keep_others_out() {
    let node = start(App::new().admin("127.0.0.1:0")).await;
    let address = admin(&node);
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(get(address, "/healthz").await.status, 200);
    // The oldest made room.
    let read = within("the oldest to be closed", silent[0].read(&mut [0])).await;
    assert!(matches!(read, Ok(0) | Err(_)));
    node.shutdown().await;
}

#[tokio::test]
#[ignore = "slow"]
async fn a_body_that_does_not_arrive_ends_the_request_and_no_action_runs() {
    let node = start(App::new().admin(Admin::new("127.0.0.1:0").token("secret"))).await;
    let address = admin(&node);
    let document = get(address, "/api/openapi.json").await.ok();
    // The connection stays open. The last byte is missing.
    let body = format!(
        "POST /api/v1/drain HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{TOKEN}\r\n{JSON}\r\n\
         Content-Length: 3\r\n\r\n{{}}"
    );
    let late = raw(address, body.as_bytes()).await;
    assert_eq!((late.status, late.code()), (408, "TIMEOUT".to_owned()));
    check(&document, ("/api/v1/drain", "post"), &late);
    // A head that does not end has no answer.
    let head = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n");
    let late = raw(address, head.as_bytes()).await;
    assert_eq!((late.status, late.ended), (0, true));
    assert!(node.handle().is_ready());
    node.shutdown().await;
}
