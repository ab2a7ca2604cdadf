//! Handshakes, and servers that do not want one.

use std::time::Duration;

use nano::{
    client::{Client, DisconnectReason},
    code,
    message::Message,
    packet::Kind,
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    fake::{Server, answered, connected_with, data, encode},
    within,
};

#[tokio::test]
async fn the_handshake_says_who_we_are_and_the_reply_is_kept() {
    let server = Server::bind().await;
    let url = server.url();
    let reply = r#"{"code":200,"sys":{"dict":{"onNews":7},"heartbeat":30,"servertime":1795198612},"user":{"motd":"hi"}}"#;
    let serve = async {
        let mut peer = server.accept().await;
        let request = peer.shake_hands(reply, &[]).await;
        peer.ack().await;
        (request, peer)
    };
    let (client, (request, _peer)) = tokio::join!(
        Client::builder()
            .handshake_user(json!({ "token": "t" }))
            .connect(&url),
        serve
    );
    assert_eq!(
        request,
        format!(
            r#"{{"sys":{{"errorFlag":true,"type":"rust","version":"{}"}},"user":{{"token":"t"}}}}"#,
            env!("CARGO_PKG_VERSION")
        )
    );

    let client = client.unwrap();
    let reply = client.handshake();
    assert_eq!(
        (reply.heartbeat, reply.servertime),
        (Some(Duration::from_secs(30)), 1_795_198_612)
    );
    assert_eq!(
        (reply.dictionary.code("onNews"), &reply.user),
        (Some(7), &Some(json!({ "motd": "hi" })))
    );
}

#[tokio::test]
async fn a_refusal_is_an_error_with_its_code_and_message() {
    let error = answered(&encode(
        Kind::Handshake,
        br#"{"code":501,"msg":"update first"}"#,
    ))
    .await
    .unwrap_err();
    assert_eq!(
        (error.code().as_str(), error.message()),
        ("501", "update first")
    );
    let error = answered(&encode(Kind::Handshake, br#"{"code":500}"#))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "500");
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_handshake_is_an_error_that_says_so() {
    let mut too_large = encode(Kind::Handshake, b"");
    too_large[1] = 0xFF;
    for (bytes, code, fault) in [
        (&b""[..], code::CLOSED, "closed by the server"),
        (b"\x01\x00", code::CLOSED, "closed by the server"),
        (
            &encode(Kind::Kick, br#"{"reason":"full"}"#),
            code::CLOSED,
            "kicked: full",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            code::BAD_REQUEST,
            "no packet kind: 72 (HTTP: is the address one of ws:// or wss://?)",
        ),
        (
            // A fatal alert: unexpected message.
            b"\x15\x03\x03\x00\x02\x02\x0a",
            code::BAD_REQUEST,
            "(TLS: is the address one of tls:// or wss://?)",
        ),
        (
            &encode(Kind::Handshake, b"hello"),
            code::BAD_REQUEST,
            "not JSON",
        ),
        (
            &encode(Kind::Handshake, b"{}"),
            code::BAD_REQUEST,
            "no code",
        ),
        (
            &data(Message::push("onNews", "early")),
            code::BAD_REQUEST,
            "a message came first",
        ),
    ] {
        let error = within(answered(bytes)).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(fault), "{error}");
    }
}

#[tokio::test]
async fn heartbeats_before_the_reply_do_not_matter() {
    let opening = [
        encode(Kind::Heartbeat, b""),
        encode(Kind::Handshake, br#"{"code":200}"#),
    ]
    .concat();
    let client = answered(&opening).await.unwrap();
    assert_eq!(within(client.closed()).await, DisconnectReason::Server);
}

#[tokio::test]
async fn a_handshake_that_never_comes_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for scheme in ["tcp", "tls", "ws", "wss"] {
        let url = format!("{scheme}://{}", silent.local_addr().unwrap());
        let error = within(
            Client::builder()
                .connect_timeout(Duration::from_millis(200))
                .connect(&url),
        )
        .await
        .unwrap_err();
        // Without any trusted certificate TLS does not even begin.
        let untrusting =
            scheme.ends_with('s') && scheme != "ws" && error.code() == code::UNAVAILABLE;
        assert!(
            error.code() == code::TIMEOUT || untrusting,
            "{scheme}: {error}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    let url = Server::bind().await.url();
    let error = within(Client::connect(&url)).await.unwrap_err();
    assert_eq!(error.code(), code::UNAVAILABLE, "{error}");
    assert_eq!(
        Client::connect("http://127.0.0.1:1")
            .await
            .unwrap_err()
            .code(),
        code::BAD_REQUEST
    );
}

#[tokio::test]
async fn a_reply_over_the_limit_is_not_read() {
    let server = Server::bind().await;
    let url = server.url();
    let serve = async {
        let mut peer = server.accept().await;
        peer.shake_hands(r#"{"code":200,"sys":{}}"#, &[]).await;
        peer.packet().await
    };
    let (client, end) = tokio::join!(Client::builder().max_packet(20).connect(&url), serve);
    assert!(
        client
            .unwrap_err()
            .message()
            .contains("over the limit of 20")
    );
    assert_eq!(end, None);
}

#[tokio::test]
async fn a_second_handshake_reply_changes_nothing() {
    let (client, mut peer) = connected_with(Client::builder(), r#"{"code":200,"user":1}"#).await;
    peer.write(&encode(Kind::Handshake, br#"{"code":500,"user":2}"#))
        .await;
    peer.send(Message::push("onLast", "")).await;
    let answer = async {
        let request = peer.message().await.unwrap();
        peer.send(Message::response(request.id, false, "ok")).await;
    };
    let (reply, ()) = tokio::join!(within(client.request_raw("Echo.Echo", "")), answer);
    assert_eq!(reply.unwrap(), "ok");
    assert_eq!(client.handshake().user, Some(json!(1)));
}
