//! What a client receives when the server ends its connection: a kick with a code, and over WebSocket
//! a close frame.

use std::time::Duration;

use bytes::Bytes;
use nano::{
    App, CloseReason, Component, Handlers, Limits, RateLimit, Raw, Result, Session, Timeouts,
    kick::{Kick, Reconnect},
    packet,
};

use crate::{
    harness::{Ends, packet},
    support::{Frame, RawClient, Server, opcode},
};

/// Ends sessions in every way an application can.
struct Door;

impl Component<Raw> for Door {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on(
            "Close",
            |_: &Self, session: &Session<Raw>, _: Bytes| -> Result {
                session.close_because("not told");
                Ok(())
            },
        )
        .on(
            "Kick",
            |_: &Self, session: &Session<Raw>, _: Bytes| -> Result {
                session.kick("out");
                Ok(())
            },
        )
        .on(
            "KickWith",
            |_: &Self, session: &Session<Raw>, to: Bytes| -> Result {
                session.kick_with(kick(&to));
                Ok(())
            },
        )
    }
}

fn kick(to: &[u8]) -> Kick {
    let kick = Kick::new("DOOR-SHUT", "the door is shut");
    match to {
        b"here" => kick.with_reconnect(Reconnect::Here),
        b"elsewhere" => kick
            .with_reconnect(Reconnect::Elsewhere)
            .with_retry_after(Duration::from_millis(1_500)),
        b"never" => kick.with_reconnect(Reconnect::Never),
        _ => kick,
    }
}

async fn server(app: App) -> (Server, Ends) {
    let (app, ends) = Ends::of(app.component(Door));
    (Server::start(app).await, ends)
}

async fn kick_body(client: &mut RawClient) -> String {
    let body = client.packet_of(packet::Kind::Kick).await;
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_kick_says_what_to_do_next_and_one_without_advice_is_that_of_nano() {
    for (notify, to, body) in [
        ("Door.Kick", "", r#"{"reason":"out"}"#),
        (
            "Door.KickWith",
            "",
            r#"{"reason":"the door is shut","code":"DOOR-SHUT"}"#,
        ),
        (
            "Door.KickWith",
            "elsewhere",
            r#"{"reason":"the door is shut","code":"DOOR-SHUT","reconnect":"elsewhere","retryAfter":1500}"#,
        ),
        (
            "Door.KickWith",
            "never",
            r#"{"reason":"the door is shut","code":"DOOR-SHUT","reconnect":"never"}"#,
        ),
    ] {
        let (server, ends) = server(App::new()).await;
        let mut client = server.client().await;
        client.notify(notify, to).await;
        assert_eq!(kick_body(&mut client).await, body);
        client.closed().await;
        assert_eq!(
            ends.first().await,
            if notify == "Door.Kick" {
                CloseReason::Kicked("out".to_owned())
            } else {
                CloseReason::KickedWith(kick(to.as_bytes()))
            }
        );
    }
}

#[tokio::test]
async fn a_shutdown_sends_clients_elsewhere_within_a_window() {
    for (window, body) in [
        (
            Some(Duration::from_secs(20)),
            r#"{"reason":"server is shutting down","code":"NANO-503","reconnect":"elsewhere","retryAfter":20000}"#,
        ),
        (
            None,
            r#"{"reason":"server is shutting down","code":"NANO-503","reconnect":"elsewhere"}"#,
        ),
    ] {
        let (server, _) =
            server(App::new().timeouts(Timeouts::new().reconnect_window(window))).await;
        let (mut tcp, mut web) = (server.client().await, server.websocket_client().await);
        server.node.handle().shutdown();
        assert_eq!(kick_body(&mut tcp).await, body);
        tcp.closed().await;
        assert_eq!(kick_body(&mut web).await, body);
        let reason = "server is shutting down".to_owned();
        assert_eq!(web.close_frame().await, Some((1001, reason)));
    }
}

#[tokio::test]
async fn a_websocket_ends_with_the_close_code_of_its_reason() {
    let limits = Limits::new()
        .max_packet(1_000)
        .rate_limit(RateLimit::disconnect(1, 2));
    let (server, _) = server(App::new().limits(limits)).await;
    for (to, code) in [
        ("", 4000),
        ("here", 4001),
        ("elsewhere", 4002),
        ("never", 4003),
    ] {
        let mut client = server.websocket_client().await;
        client.notify("Door.KickWith", to).await;
        kick_body(&mut client).await;
        let reason = "the door is shut".to_owned();
        assert_eq!(client.close_frame().await, Some((code, reason)));
    }

    let mut client = server.websocket_client().await;
    for _ in 0..3 {
        client.notify("Nope.Nope", "").await;
    }
    assert!(
        kick_body(&mut client)
            .await
            .contains(r#""code":"NANO-429""#)
    );
    let reason = "rate limit exceeded".to_owned();
    assert_eq!(client.close_frame().await, Some((1008, reason)));

    // A malformed message, a packet of no kind.
    for bytes in [&packet(packet::Kind::Data, b"")[..], b"\x09\0\0\0"] {
        let mut client = server.websocket_client().await;
        client.send(bytes).await;
        let (code, reason) = client.close_frame().await.unwrap();
        assert_eq!(code, 1002, "{reason}");
        assert!(!reason.is_empty());
    }

    // As in nano, and so do clients that begin with data.
    let mut client = server.websocket_client().await;
    client.notify("Door.Close", "").await;
    assert_eq!(client.close_frame().await, None);
}

#[tokio::test]
async fn input_that_is_no_websocket_has_a_close_code_of_its_own() {
    let (server, _) = server(App::new().limits(Limits::new().max_packet(1_000))).await;
    let continuation = Frame {
        opcode: 0,
        ..Frame::binary(b"x".to_vec())
    };
    let too_long = Frame::binary(vec![3; 10_000]);
    for (frame, code) in [(continuation, 1002), (too_long, 1009)] {
        let mut client = server.websocket_client().await;
        client.send_frame(&frame).await;
        let (received, reason) = client.close_frame().await.unwrap();
        assert_eq!(received, code, "{reason}");
    }
    // The answer to a close frame is the client's own code.
    let mut client = server.websocket_client().await;
    let close = Frame {
        opcode: opcode::CLOSE,
        ..Frame::binary(4_321_u16.to_be_bytes().to_vec())
    };
    client.send_frame(&close).await;
    assert_eq!(client.close_frame().await, Some((4_321, String::new())));
}

#[tokio::test]
async fn a_message_over_the_limit_ends_with_a_reason_the_client_sees() {
    let (server, ends) = server(App::new().limits(Limits::new().max_packet(1_000))).await;
    let expected = r#"{"reason":"a packet body of 1001 bytes, over the limit of 1000","code":"NANO-413","reconnect":"here"}"#;
    let too_large = packet(packet::Kind::Data, &[0; 1_001]);
    let mut tcp = server.client().await;
    tcp.send(&too_large).await;
    assert_eq!(kick_body(&mut tcp).await, expected);
    tcp.closed().await;
    assert!(matches!(ends.first().await, CloseReason::Protocol(_)));

    let mut web = server.websocket_client().await;
    web.send(&too_large).await;
    assert_eq!(kick_body(&mut web).await, expected);
    assert_eq!(web.close_frame().await.unwrap().0, 1009);

    // Also when it is the handshake.
    let mut early = RawClient::tcp(server.tcp).await;
    early
        .send(&packet(packet::Kind::Handshake, &[b' '; 1_001]))
        .await;
    assert_eq!(kick_body(&mut early).await, expected);
}

#[tokio::test]
async fn a_client_that_does_not_acknowledge_its_handshake_is_kicked() {
    let timeouts = Timeouts::new().handshake(Duration::from_millis(100));
    let (server, ends) = server(App::new().timeouts(timeouts)).await;
    let mut client = RawClient::tcp(server.tcp).await;
    client.send_packet(packet::Kind::Handshake, b"{}").await;
    client.packet_of(packet::Kind::Handshake).await;
    let expected = r#"{"reason":"handshake timeout","code":"NANO-408","reconnect":"here"}"#;
    assert_eq!(kick_body(&mut client).await, expected);
    client.closed().await;
    assert_eq!(ends.first().await, CloseReason::HandshakeTimeout);
}
