//! A server that says exactly what a test wants it to.

use std::collections::VecDeque;

use bytes::BytesMut;
use nano::{
    Result,
    client::{Builder, Client},
    message::{Dictionary, Message},
    packet::{self, Decoder, Kind, Packet},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::within;

pub(crate) const REPLY: &str = r#"{"code":200,"sys":{"servertime":0}}"#;

pub(crate) struct Server {
    listener: TcpListener,
}

impl Server {
    pub(crate) async fn bind() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("tcp://{}", self.listener.local_addr().unwrap())
    }

    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        Peer {
            stream,
            decoder: Decoder::new(packet::MAX_BODY),
            packets: VecDeque::new(),
        }
    }
}

/// The server's end of a connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
    packets: VecDeque<Packet>,
}

impl Peer {
    /// Answers the handshake with `reply` and these bytes right behind it. The body of the client's
    /// handshake.
    pub(crate) async fn shake_hands(&mut self, reply: &str, behind: &[u8]) -> String {
        let handshake = self.packet().await.unwrap();
        assert_eq!(handshake.kind, Kind::Handshake);
        self.write(&[&encode(Kind::Handshake, reply.as_bytes()), behind].concat())
            .await;
        String::from_utf8(handshake.body.to_vec()).unwrap()
    }

    pub(crate) async fn ack(&mut self) {
        let ack = self.packet().await.unwrap();
        assert_eq!((ack.kind, ack.body.len()), (Kind::Ack, 0));
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.write(&data(message)).await;
    }

    /// The next packet; `None` at the end of the stream.
    pub(crate) async fn packet(&mut self) -> Option<Packet> {
        while self.packets.is_empty() {
            let mut buffer = vec![0; 65_536];
            let count = within(self.stream.read(&mut buffer)).await.unwrap();
            if count == 0 {
                assert!(self.decoder.is_empty(), "the stream ends inside a packet");
                return None;
            }
            self.decoder.feed(&buffer[..count]);
            while let Some(packet) = self.decoder.decode().unwrap() {
                self.packets.push_back(packet);
            }
        }
        self.packets.pop_front()
    }

    pub(crate) async fn message(&mut self) -> Option<Message> {
        let packet = self.packet().await?;
        assert_eq!(packet.kind, Kind::Data);
        Some(Message::decode(packet.body, &Dictionary::default()).unwrap())
    }

    /// How many packets have arrived besides those already looked at, in one read.
    pub(crate) fn arrived(&self) -> usize {
        self.packets.len()
    }
}

pub(crate) fn encode(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    packet::encode(kind, body, &mut out).unwrap();
    out.to_vec()
}

pub(crate) fn data(message: Message) -> Vec<u8> {
    let mut body = BytesMut::new();
    message.encode(&Dictionary::default(), &mut body).unwrap();
    encode(Kind::Data, &body)
}

/// A client, and what it is connected to.
pub(crate) async fn connected() -> (Client, Peer) {
    connected_with(Client::builder(), REPLY).await
}

pub(crate) async fn connected_with(builder: Builder, reply: &str) -> (Client, Peer) {
    let server = Server::bind().await;
    let url = server.url();
    let peer = async {
        let mut peer = server.accept().await;
        peer.shake_hands(reply, &[]).await;
        peer.ack().await;
        peer
    };
    let (client, peer) = tokio::join!(builder.connect(&url), peer);
    (client.unwrap(), peer)
}

/// What becomes of a client whose server sends these bytes and closes, whatever it is sent.
pub(crate) async fn answered(bytes: &[u8]) -> Result<Client> {
    let server = Server::bind().await;
    let url = server.url();
    let serve = async {
        let mut peer = server.accept().await;
        peer.packet().await.unwrap();
        peer.write(bytes).await;
    };
    let (client, ()) = tokio::join!(Client::connect(&url), serve);
    client
}
