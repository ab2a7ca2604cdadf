//! A client of bare packets.

use std::{fmt, io, net::SocketAddr};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{
    wait::within,
    websocket::{self, Frame, opcode},
};
use crate::{
    error::Error,
    kick::Kick,
    message::{Dictionary, Kind, Message},
    packet,
};

/// A client of bare packets, over TCP or WebSocket: it sends no heartbeats, reads only when it is
/// asked to, and shows every byte.
///
/// Methods that expect a packet or the end pass over the server's heartbeats, which come at any time;
/// [`frame`](RawClient::frame) and [`bytes`](RawClient::bytes) show them.
///
/// For the usual case [`Client`](crate::client::Client) is the better one.
///
/// # Panics
/// Every method panics when the connection fails, when another packet comes than the expected one,
/// or when none comes within [`DEADLINE`](super::DEADLINE).
pub struct RawClient {
    stream: BufReader<TcpStream>,
    websocket: bool,
}

impl fmt::Debug for RawClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawClient")
            .field("local_addr", &self.stream.get_ref().local_addr().ok())
            .field("websocket", &self.websocket)
            .finish_non_exhaustive()
    }
}

impl RawClient {
    /// Connects by TCP. Nothing is sent yet.
    pub async fn tcp(address: SocketAddr) -> Self {
        let stream = done("a connection", TcpStream::connect(address)).await;
        // So that what is sent in two pieces goes out in two pieces.
        if let Err(error) = stream.set_nodelay(true) {
            panic!("no delay: {error}");
        }
        Self {
            stream: BufReader::new(stream),
            websocket: false,
        }
    }

    /// Connects by WebSocket. Nothing is sent beyond the upgrade.
    pub async fn websocket(address: SocketAddr, path: &str) -> Self {
        let (stream, head) = websocket::http(address, &websocket::upgrade(path, "")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "not upgraded: {head}");
        Self {
            stream,
            websocket: true,
        }
    }

    /// The client's own address.
    pub fn local_addr(&self) -> SocketAddr {
        let address = self.stream.get_ref().local_addr();
        address.unwrap_or_else(|error| panic!("no address: {error}"))
    }

    /// Closes its direction of the connection.
    pub async fn finish(&mut self) {
        done("the end of the output", self.stream.shutdown()).await;
    }

    /// Sends bytes as they are; over WebSocket in one binary frame.
    pub async fn send(&mut self, bytes: &[u8]) {
        if self.websocket {
            return self.send_frame(&Frame::binary(bytes)).await;
        }
        self.send_bytes(bytes).await;
    }

    /// Sends a frame of any kind; over TCP its payload.
    pub async fn send_frame(&mut self, frame: &Frame) {
        if self.websocket {
            self.send_bytes(&frame.encode()).await
        } else {
            self.send_bytes(&frame.payload).await
        }
    }

    /// Sends bytes as they are, over WebSocket too.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        done("room to send", self.stream.write_all(bytes)).await;
    }

    /// Sends a packet.
    pub async fn send_packet(&mut self, kind: packet::Kind, body: &[u8]) {
        let mut out = BytesMut::new();
        if let Err(error) = packet::encode(kind, body, &mut out) {
            panic!("not a packet: {error}");
        }
        self.send(&out).await;
    }

    /// Sends a message, without a route dictionary.
    pub async fn send_message(&mut self, message: &Message) {
        let mut out = BytesMut::new();
        if let Err(error) = message.encode(&Dictionary::default(), &mut out) {
            panic!("not a message: {error}");
        }
        self.send_packet(packet::Kind::Data, &out).await;
    }

    /// Sends a request.
    pub async fn request(&mut self, id: u64, route: &str, body: impl Into<Bytes>) {
        self.send_message(&Message::request(id, route, body)).await;
    }

    /// Sends a notify.
    pub async fn notify(&mut self, route: &str, body: impl Into<Bytes>) {
        self.send_message(&Message::notify(route, body)).await;
    }

    /// Sends a request and returns its response, which must be the next message.
    pub async fn call(&mut self, id: u64, route: &str, body: impl Into<Bytes>) -> Bytes {
        self.request(id, route, body).await;
        self.response(id).await
    }

    /// Does the handshake as a client that knows the error bit. Returns the server's reply.
    pub async fn handshake(&mut self) -> Value {
        self.handshake_with(br#"{"sys":{"errorFlag":true}}"#).await
    }

    /// Does the handshake with this request body. Returns the server's reply.
    pub async fn handshake_with(&mut self, request: &[u8]) -> Value {
        self.send_packet(packet::Kind::Handshake, request).await;
        let reply = self.packet_of(packet::Kind::Handshake).await;
        self.send_packet(packet::Kind::Ack, b"").await;
        serde_json::from_slice(&reply)
            .unwrap_or_else(|error| panic!("a handshake reply that is no JSON: {error}"))
    }

    /// The next frame; `None` when the server has closed the connection. Over TCP each packet
    /// counts as a binary frame.
    pub async fn frame(&mut self) -> Option<Frame> {
        let first = self.stream.read_u8();
        let first = match within("a packet, or the end of the connection", first).await {
            Ok(first) => first,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
            Err(error) => panic!("the connection did not end in order: {error}"),
        };
        if self.websocket {
            return Some(within("a whole frame", Frame::read(&mut self.stream, first)).await);
        }
        let mut packet = vec![first; packet::HEADER];
        done("a header", self.stream.read_exact(&mut packet[1..])).await;
        let len = u32::from_be_bytes([0, packet[1], packet[2], packet[3]]) as usize;
        packet.resize(packet::HEADER + len, 0);
        let body = self.stream.read_exact(&mut packet[packet::HEADER..]);
        done("a whole packet", body).await;
        Some(Frame::binary(packet))
    }

    /// The next packet with its header; `None` when the server has closed the connection. Over
    /// WebSocket it must have a frame of its own.
    pub async fn bytes(&mut self) -> Option<Vec<u8>> {
        let frame = self.frame().await?;
        assert_eq!(
            (frame.opcode, frame.last),
            (opcode::BINARY, true),
            "not a packet: {frame:?}"
        );
        Some(frame.payload)
    }

    /// The body of the next packet, which must be of this kind.
    pub async fn packet_of(&mut self, kind: packet::Kind) -> Bytes {
        let mut next = self.bytes().await;
        while kind != packet::Kind::Heartbeat && is_heartbeat(next.as_deref()) {
            next = self.bytes().await;
        }
        let Some(bytes) = next else {
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

    /// The next message.
    pub async fn message(&mut self) -> Message {
        loop {
            let Some(bytes) = self.bytes().await else {
                panic!("the connection ended; expected a message")
            };
            if is_heartbeat(Some(&bytes)) {
                continue;
            }
            assert_eq!(
                bytes[0],
                packet::Kind::Data as u8,
                "expected a message, got {:?}",
                String::from_utf8_lossy(&bytes)
            );
            let body = Bytes::from(bytes).slice(packet::HEADER..);
            return Message::decode(body, &Dictionary::default())
                .unwrap_or_else(|error| panic!("a malformed message: {error}"));
        }
    }

    /// The body of the next message, which must be the response to this request.
    pub async fn response(&mut self, id: u64) -> Bytes {
        let message = self.message().await;
        assert_eq!(
            (message.kind, message.id, message.error),
            (Kind::Response, id, false),
            "not the response: {message:?}"
        );
        message.body
    }

    /// The next message, which must be the error reply to this request.
    pub async fn error(&mut self, id: u64) -> Error {
        let message = self.message().await;
        assert_eq!(
            (message.kind, message.id, message.error),
            (Kind::Response, id, true),
            "not the error reply: {message:?}"
        );
        Error::from_body(&message.body)
    }

    /// The body of the next message, which must be a push with this route.
    pub async fn push(&mut self, route: &str) -> Bytes {
        let message = self.message().await;
        assert_eq!(
            (message.kind, &*message.route),
            (Kind::Push, route),
            "not the push: {message:?}"
        );
        message.body
    }

    /// The reason in a kick, which must be the next packet and the last one.
    pub async fn kicked(&mut self) -> String {
        self.kick().await.reason
    }

    /// The kick, which must be the next packet and the last one.
    pub async fn kick(&mut self) -> Kick {
        let body = self.packet_of(packet::Kind::Kick).await;
        self.closed().await;
        Kick::decode(&body)
    }

    /// The end of the connection, in order and without another packet, except for the close frame of
    /// a WebSocket.
    pub async fn closed(&mut self) {
        self.close_frame().await;
    }

    /// The end of the connection, as [`closed`](RawClient::closed); returns code and reason of the
    /// close frame, if there is one.
    pub async fn close_frame(&mut self) -> Option<(u16, String)> {
        let mut frame = self.frame().await?;
        while frame.opcode == opcode::BINARY && is_heartbeat(Some(&frame.payload)) {
            frame = self.frame().await?;
        }
        let &[high, low, ref reason @ ..] = &frame.payload[..] else {
            panic!("expected the end of the connection, got {frame:?}")
        };
        assert_eq!(
            (frame.opcode, self.frame().await),
            (opcode::CLOSE, None),
            "expected the end of the connection"
        );
        let reason = String::from_utf8_lossy(reason).into_owned();
        Some((u16::from_be_bytes([high, low]), reason))
    }
}

/// Whether the bytes are a heartbeat of the server.
fn is_heartbeat(packet: Option<&[u8]>) -> bool {
    // That of a client which may return has a body: a count.
    let heartbeat = packet::Kind::Heartbeat as u8;
    packet.is_some_and(|packet| packet.first() == Some(&heartbeat))
}

/// Waits for an operation that must succeed.
#[track_caller]
fn done<T>(what: &str, operation: impl Future<Output = io::Result<T>>) -> impl Future<Output = T> {
    let operation = within(what, operation);
    async move {
        match operation.await {
            Ok(value) => value,
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn heartbeats_are_passed_over_where_another_packet_or_the_end_is_expected() {
        const HEARTBEAT: &[u8] = &[3, 0, 0, 0];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = RawClient::tcp(listener.local_addr().unwrap()).await;
        let (mut server, _) = listener.accept().await.unwrap();
        let kick = br#"{"reason":"x"}"#;
        let kicked = [&[5, 0, 0, kick.len() as u8], &kick[..]].concat();
        let sent: [&[u8]; 5] = [
            HEARTBEAT,
            &[4, 0, 0, 2, 4, 1],
            HEARTBEAT,
            HEARTBEAT,
            &kicked,
        ];
        server.write_all(&sent.concat()).await.unwrap();
        server.write_all(HEARTBEAT).await.unwrap();
        drop(server);
        client.response(1).await;
        assert_eq!(client.packet_of(packet::Kind::Heartbeat).await, "");
        assert_eq!(client.kicked().await, "x");
    }
}
