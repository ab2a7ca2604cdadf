use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use nano::{
    Error, handshake,
    message::{Dictionary, Kind, Message},
    packet,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{
    websocket::{self, Frame, opcode},
    within,
};

/// A client that does nothing by itself. Everything it waits for has to come within
/// [`DEADLINE`](super::DEADLINE), else it panics.
pub(crate) struct RawClient {
    stream: BufReader<TcpStream>,
    websocket: bool,
}

impl RawClient {
    pub(crate) async fn tcp(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address))
            .await
            .unwrap();
        // What is sent in two pieces goes out in two pieces.
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
            websocket: false,
        }
    }

    pub(crate) async fn websocket(address: SocketAddr, path: &str) -> Self {
        let (stream, head) = websocket::http(address, &websocket::upgrade(path, "")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "not upgraded: {head}");
        Self {
            stream,
            websocket: true,
        }
    }

    /// Says that it will send nothing more.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().unwrap()
    }

    /// Sends bytes as they are; over WebSocket in one binary frame.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        if self.websocket {
            return self.send_frame(&Frame::binary(bytes)).await;
        }
        self.send_bytes(bytes).await;
    }

    /// Sends a frame of any kind; over TCP what it holds.
    pub(crate) async fn send_frame(&mut self, frame: &Frame) {
        if self.websocket {
            self.send_bytes(&frame.encode()).await
        } else {
            self.send_bytes(&frame.payload).await
        }
    }

    /// Sends bytes as they are, over WebSocket too.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        within("room to send", self.stream.write_all(bytes))
            .await
            .unwrap();
    }

    pub(crate) async fn send_packet(&mut self, kind: packet::Kind, body: &[u8]) {
        let mut out = BytesMut::new();
        packet::encode(kind, body, &mut out).unwrap();
        self.send(&out).await;
    }

    pub(crate) async fn send_message(&mut self, message: &Message) {
        let mut out = BytesMut::new();
        message.encode(&Dictionary::default(), &mut out).unwrap();
        self.send_packet(packet::Kind::Data, &out).await;
    }

    pub(crate) async fn request(&mut self, id: u64, route: &str, body: impl Into<Bytes>) {
        self.send_message(&Message::request(id, route, body)).await;
    }

    pub(crate) async fn notify(&mut self, route: &str, body: impl Into<Bytes>) {
        self.send_message(&Message::notify(route, body)).await;
    }

    /// Shakes hands. What the server says about itself.
    pub(crate) async fn handshake(&mut self) -> Value {
        self.send_packet(packet::Kind::Handshake, b"{}").await;
        let reply = self.packet_of(packet::Kind::Handshake).await;
        self.send_packet(packet::Kind::Ack, b"").await;
        serde_json::from_slice(&reply).unwrap()
    }

    /// The next frame; `None` when the server has closed the connection. Over TCP each packet
    /// counts as a binary frame.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let first = match within(
            "a packet, or the end of the connection",
            self.stream.read_u8(),
        )
        .await
        {
            Ok(first) => first,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(error) => panic!("the connection did not end in order: {error}"),
        };
        if self.websocket {
            return Some(within("the rest of a frame", Frame::read(&mut self.stream, first)).await);
        }
        let mut packet = vec![first; packet::HEADER];
        within(
            "the rest of a header",
            self.stream.read_exact(&mut packet[1..]),
        )
        .await
        .unwrap();
        let len = u32::from_be_bytes([0, packet[1], packet[2], packet[3]]) as usize;
        packet.resize(packet::HEADER + len, 0);
        within(
            "the rest of a packet",
            self.stream.read_exact(&mut packet[packet::HEADER..]),
        )
        .await
        .unwrap();
        Some(Frame::binary(packet))
    }

    /// The next packet, header and all, in a frame of its own; `None` when the server has closed
    /// the connection.
    pub(crate) async fn bytes(&mut self) -> Option<Vec<u8>> {
        let frame = self.frame().await?;
        assert_eq!(
            (frame.opcode, frame.last),
            (opcode::BINARY, true),
            "not a packet: {frame:?}"
        );
        Some(frame.payload)
    }

    /// The body of the next packet, which has to be of this kind.
    pub(crate) async fn packet_of(&mut self, kind: packet::Kind) -> Bytes {
        let Some(bytes) = self.bytes().await else {
            panic!("the connection ended; expected {kind:?}")
        };
        assert_eq!(
            bytes[0],
            kind as u8,
            "expected {kind:?}, got {:?}",
            String::from_utf8_lossy(&bytes)
        );
        Bytes::from(bytes).slice(packet::HEADER..)
    }

    /// The next message. Heartbeats are passed over.
    pub(crate) async fn message(&mut self) -> Message {
        loop {
            let Some(bytes) = self.bytes().await else {
                panic!("the connection ended; expected a message")
            };
            if bytes[0] == packet::Kind::Heartbeat as u8 {
                continue;
            }
            assert_eq!(
                bytes[0],
                packet::Kind::Data as u8,
                "expected a message, got {:?}",
                String::from_utf8_lossy(&bytes)
            );
            return Message::decode(
                Bytes::from(bytes).slice(packet::HEADER..),
                &Dictionary::default(),
            )
            .unwrap();
        }
    }

    /// The body of the next message, which has to be the answer of this request.
    pub(crate) async fn response(&mut self, id: u64) -> Bytes {
        let message = self.message().await;
        assert_eq!(
            (message.kind, message.id, message.error),
            (Kind::Response, id, false),
            "not the response: {message:?}"
        );
        message.body
    }

    /// The next message, which has to be the error reply of this request.
    pub(crate) async fn error(&mut self, id: u64) -> Error {
        let message = self.message().await;
        assert_eq!(
            (message.kind, message.id, message.error),
            (Kind::Response, id, true),
            "not the error reply: {message:?}"
        );
        Error::from_body(&message.body)
    }

    /// The body of the next message, which has to be a push with this route.
    pub(crate) async fn push(&mut self, route: &str) -> Bytes {
        let message = self.message().await;
        assert_eq!(
            (message.kind, &*message.route),
            (Kind::Push, route),
            "not the push: {message:?}"
        );
        message.body
    }

    /// Sends a request and returns its answer, which has to be the next message.
    pub(crate) async fn call(&mut self, id: u64, route: &str, body: impl Into<Bytes>) -> Bytes {
        self.request(id, route, body).await;
        self.response(id).await
    }

    /// The reason of the kick that ends the connection, with nothing before it and nothing behind.
    pub(crate) async fn kicked(&mut self) -> String {
        let body = self.packet_of(packet::Kind::Kick).await;
        self.closed().await;
        handshake::decode_kick(&body)
    }

    /// The server closes the connection in order, without another byte.
    pub(crate) async fn closed(&mut self) {
        let frame = self.frame().await;
        assert_eq!(frame, None, "expected the end of the connection");
    }
}
