//! WebSockets, whatever frames the server likes.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use nano::{
    Accept, App, Listener,
    client::{Client, DisconnectReason},
    code,
    message::Message,
    packet::Kind,
};
use nano_protocol::websocket::{Event, FrameReader, Opcode, control, put_head};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{Message as Frame, handshake::derive_accept_key},
};

use crate::{
    fake::{REPLY, data, encode},
    within,
};

async fn connected() -> (Client, WebSocketStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/nano", listener.local_addr().unwrap());
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        assert!(
            binary(&mut socket)
                .await
                .starts_with(&[Kind::Handshake as u8])
        );
        socket
            .send(Frame::binary(encode(Kind::Handshake, REPLY.as_bytes())))
            .await
            .unwrap();
        assert_eq!(binary(&mut socket).await, encode(Kind::Ack, b""));
        socket
    };
    let (client, socket) = tokio::join!(Client::connect(&url), within(serve));
    (client.unwrap(), socket)
}

async fn binary(socket: &mut WebSocketStream<TcpStream>) -> Vec<u8> {
    match within(socket.next()).await.unwrap().unwrap() {
        Frame::Binary(bytes) => bytes.to_vec(),
        frame => panic!("{frame:?}"),
    }
}

#[tokio::test]
async fn each_packet_is_sent_in_a_frame_of_its_own() {
    let (client, mut socket) = connected().await;
    for n in ["1", "2", "3"] {
        client.notify_raw("Echo.Sink", n).await.unwrap();
    }
    for n in ["1", "2", "3"] {
        assert_eq!(
            binary(&mut socket).await,
            data(Message::notify("Echo.Sink", n))
        );
    }
}

#[tokio::test]
async fn packets_come_in_frames_of_any_kind() {
    let (client, mut socket) = connected().await;
    let mut news = client.subscribe("onNews");
    let packets: Vec<u8> = ["1", "2", "3"]
        .iter()
        .flat_map(|n| data(Message::push("onNews", *n)))
        .collect();
    let text = String::from_utf8(packets.clone()).unwrap();
    let (one, other) = packets.split_at(7);
    for frame in [
        Frame::binary(packets.clone()),
        Frame::binary(one.to_vec()),
        Frame::Ping("are you there?".into()),
        Frame::binary(Vec::new()),
        Frame::binary(other.to_vec()),
        Frame::text(text),
    ] {
        socket.send(frame).await.unwrap();
    }
    for n in ["1", "2", "3"].iter().cycle().take(9) {
        assert_eq!(within(news.recv()).await.unwrap(), n);
    }
    assert_eq!(
        within(socket.next()).await.unwrap().unwrap(),
        Frame::Pong("are you there?".into())
    );
}

#[tokio::test]
async fn it_ends_with_a_closing_frame_or_without() {
    let (client, mut socket) = connected().await;
    socket.close(None).await.unwrap();
    assert_eq!(within(client.closed()).await, DisconnectReason::Server);

    let (client, socket) = connected().await;
    drop(socket);
    assert_eq!(within(client.closed()).await, DisconnectReason::Server);

    let (client, mut socket) = connected().await;
    client.notify_raw("Echo.Sink", "last words").await.unwrap();
    client.close();
    assert_eq!(
        binary(&mut socket).await,
        data(Message::notify("Echo.Sink", "last words"))
    );
    assert!(matches!(
        within(socket.next()).await,
        Some(Ok(Frame::Close(_)))
    ));
    assert!(within(socket.next()).await.is_none());
    assert_eq!(within(client.closed()).await, DisconnectReason::Local);
}

#[tokio::test]
async fn frames_right_behind_the_reply_to_the_upgrade_are_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/nano", listener.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        let request = String::from_utf8(request).unwrap();
        let mut headers = request.lines().filter_map(|line| line.split_once(": "));
        let mut key = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
        let accept = derive_accept_key(key.take().unwrap().1.as_bytes());
        let mut reply = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        let packet = encode(Kind::Handshake, REPLY.as_bytes());
        reply.extend(control(Opcode::Ping, b"there?", None));
        put_head(&mut reply, Opcode::Binary, packet.len() as u64, None);
        reply.extend(packet);
        stream.write_all(&reply).await.unwrap();

        let (mut reader, mut pong) = (FrameReader::of_client(1 << 20), false);
        while !pong {
            let mut bytes = Vec::new();
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
            let read = reader.read(&mut bytes, |event| pong |= event == Event::Pong);
            read.unwrap();
        }
    };
    let (client, ()) = tokio::join!(Client::connect(&url), within(serve));
    client.unwrap();
}

#[tokio::test]
async fn what_is_no_frame_closes_the_connection() {
    let (client, mut socket) = connected().await;
    socket.get_mut().write_all(&[0xFF; 64]).await.unwrap();
    assert!(matches!(
        within(client.closed()).await,
        DisconnectReason::Protocol(_)
    ));
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/other", listener.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let count = stream.read(&mut request).await.unwrap();
        assert!(request[..count].starts_with(b"GET /other HTTP/1.1\r\n"));
        stream
            .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
    };
    let (client, ()) = tokio::join!(within(Client::connect(&url)), within(serve));
    let error = client.unwrap_err();
    assert_eq!(error.code(), code::UNAVAILABLE);
    assert!(error.message().contains("404"), "{error}");
}

#[tokio::test]
async fn the_upgrade_carries_headers_and_subprotocols_of_the_application() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let listener = Listener::websocket("127.0.0.1:0", "/nano").subprotocols(["nano"]);
    let app = App::new().listen(listener).on_handshake(move |handshake| {
        let upgrade = handshake.upgrade().unwrap();
        let headers = ["authorization", "host", "sec-websocket-protocol"];
        let headers = headers.map(|name| upgrade.header(name).map(str::to_owned));
        *note.lock() = headers.to_vec();
        Ok(Accept::new())
    });
    let node = app.start().await.unwrap();
    let url = format!("ws://{}/nano", node.addresses()[0]);
    let client = Client::builder()
        .header("Authorization", "Bearer t")
        .header("Host", "game.example")
        .subprotocol("token.t")
        .subprotocol("nano");
    within(client.connect(&url)).await.unwrap();
    let expected = ["Bearer t", "game.example", "token.t, nano"];
    assert_eq!(*seen.lock(), expected.map(|header| Some(header.to_owned())));

    for (builder, expected) in [
        (Client::builder().subprotocol("other"), code::UNAVAILABLE),
        (Client::builder().subprotocol("a\nb"), code::BAD_REQUEST),
        (Client::builder().header("a b", "c"), code::BAD_REQUEST),
        (
            Client::builder().header("a", "b\r\nc: d"),
            code::BAD_REQUEST,
        ),
        (Client::builder().header("Upgrade", "x"), code::BAD_REQUEST),
        (
            Client::builder().header("Sec-WebSocket-Key", "x"),
            code::BAD_REQUEST,
        ),
    ] {
        let error = within(builder.connect(&url)).await.unwrap_err();
        assert_eq!(error.code(), expected, "{error}");
    }
}
