//! Transports that the application brings.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use nano::{
    App, CloseReason, Listener, Node,
    packet::{Decoder, Kind},
    transport::{Accepted, Acceptor, Stream, Transport},
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use crate::{
    denied::networks,
    harness::{Client, Echo, Ends, greeting},
    support::{eventually, within},
};

/// A transport of messages in memory: what a client has of it, and what a node has.
struct Memory {
    incoming: mpsc::Receiver<Bytes>,
    outgoing: mpsc::UnboundedSender<Bytes>,
}

impl Transport for Memory {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        let message = ready!(self.incoming.poll_recv(cx)).unwrap_or_default();
        into.feed(&message);
        Poll::Ready(Ok(message.len()))
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        for message in from.drain(..) {
            *written += message.len() as u64;
            let sent = self.outgoing.send(message);
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.incoming.close();
        Poll::Ready(Ok(()))
    }
}

struct Player {
    to_node: mpsc::Sender<Bytes>,
    from_node: mpsc::UnboundedReceiver<Bytes>,
    decoder: Decoder,
}

impl Player {
    async fn send(&self, bytes: Vec<u8>) {
        self.to_node.send(bytes.into()).await.unwrap();
    }

    async fn packet(&mut self) -> Option<(Kind, Bytes)> {
        loop {
            if let Some(packet) = self.decoder.decode().unwrap() {
                return Some((packet.kind, packet.body));
            }
            let message = within("a message", self.from_node.recv()).await?;
            self.decoder.feed(&message);
        }
    }
}

struct MemoryAcceptor {
    connections: mpsc::Receiver<Accepted<Memory>>,
    failures: usize,
}

impl Acceptor for MemoryAcceptor {
    type Transport = Memory;

    async fn accept(&mut self) -> io::Result<Accepted<Memory>> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        match self.connections.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }
}

struct Network {
    connect: mpsc::Sender<Accepted<Memory>>,
}

impl Network {
    fn new() -> (Self, MemoryAcceptor) {
        let (connect, connections) = mpsc::channel(16);
        let acceptor = MemoryAcceptor {
            connections,
            failures: 3,
        };
        (Self { connect }, acceptor)
    }

    async fn join(&self, remote: Option<&str>) -> Player {
        let (to_node, incoming) = mpsc::channel(16);
        let (outgoing, from_node) = mpsc::unbounded_channel();
        let mut accepted = Accepted::new(Memory { incoming, outgoing });
        if let Some(remote) = remote {
            accepted = accepted.remote(remote.parse::<SocketAddr>().unwrap());
        }
        self.connect.send(accepted).await.ok().unwrap();
        Player {
            to_node,
            from_node,
            decoder: Decoder::new(1 << 20),
        }
    }
}

fn request(route: &str, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0x00, 7, u8::try_from(route.len()).unwrap()];
    message.extend_from_slice(route.as_bytes());
    message.extend_from_slice(body);
    crate::harness::packet(Kind::Data, &message)
}

async fn start(acceptor: MemoryAcceptor) -> (Node, Ends) {
    let app = App::new()
        .component(Echo)
        .deny(networks(["192.0.2.0/24"]))
        .listen(Listener::custom(acceptor));
    let (app, ends) = Ends::of(app);
    (app.start().await.unwrap(), ends)
}

#[tokio::test]
async fn a_transport_of_messages_carries_players_like_any_other() {
    let (network, acceptor) = Network::new();
    let (node, ends) = start(acceptor).await;
    assert!(node.addresses().is_empty());
    let mut player = network.join(Some("[::ffff:198.51.100.7]:4711")).await;
    player.send(greeting()).await;
    assert_eq!(player.packet().await.unwrap().0, Kind::Handshake);
    // Two packets in one message, and one in two.
    player
        .send([request("Echo.Echo", b"a"), request("Echo.Echo", b"b")].concat())
        .await;
    let (first, second) = (request("Echo.Echo", b"c"), request("Echo.Kick", b""));
    player.send(first[..5].to_vec()).await;
    player.send([&first[5..], &second].concat()).await;
    let remote = node.handle().sessions().list()[0].remote_addr();
    assert_eq!(remote.unwrap().to_string(), "198.51.100.7:4711");
    let mut bodies = Vec::new();
    while let Some((kind, body)) = player.packet().await {
        bodies.push((kind, body.last().copied()));
    }
    let letters = bodies.iter().filter(|(kind, _)| *kind == Kind::Data);
    let letters: Vec<_> = letters.filter_map(|(_, last)| *last).collect();
    assert_eq!(letters[..3], *b"abc");
    assert!(bodies.iter().any(|(kind, _)| *kind == Kind::Kick));
    assert_eq!(ends.first().await, CloseReason::Kicked("enough".to_owned()));
    eventually("nothing is left", || node.handle().sessions().count() == 0).await;
}

#[tokio::test]
async fn deny_list_and_shutdown_hold_for_custom_transports() {
    let (network, acceptor) = Network::new();
    let (node, ends) = start(acceptor).await;
    let mut denied = network.join(Some("192.0.2.1:1")).await;
    assert!(denied.packet().await.is_none());
    let mut nameless = network.join(None).await;
    nameless.send(greeting()).await;
    assert!(nameless.packet().await.is_some());
    assert_eq!(node.handle().sessions().list()[0].remote_addr(), None);
    within("a shutdown", node.shutdown()).await;
    assert_eq!(ends.first().await, CloseReason::Shutdown);
    // The acceptor is gone with the node.
    assert!(network.connect.is_closed());
}

struct Unix(UnixListener);

impl Acceptor for Unix {
    type Transport = Stream<UnixStream>;

    async fn accept(&mut self) -> io::Result<Accepted<Self::Transport>> {
        let (stream, _) = self.0.accept().await?;
        Ok(Accepted::new(Stream::new(stream)))
    }
}

#[tokio::test]
async fn a_byte_stream_of_another_kind_is_a_transport_already() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("players.sock");
    let acceptor = Unix(UnixListener::bind(&path).unwrap());
    let app = App::new()
        .component(Echo)
        .tcp("127.0.0.1:0")
        .listen(Listener::custom(acceptor));
    let node = app.start().await.unwrap();
    assert_eq!(node.addresses().len(), 1);
    let mut client = Client::over(UnixStream::connect(&path).await.unwrap());
    client.shake_hands().await;
    for size in [0, 1, 60_000] {
        let body = Bytes::from(vec![b'x'; size]);
        assert_eq!(client.ask("Echo.Echo", body.clone()).await.unwrap(), body);
    }
    within("a shutdown", node.shutdown()).await;
    assert!(UnixStream::connect(&path).await.is_err());
}

#[tokio::test]
async fn options_that_a_custom_transport_cannot_have_are_errors() {
    let (_, acceptor) = Network::new();
    let listener = Listener::custom(acceptor);
    let app = |listener| App::new().component(Echo).listen(listener);
    let proxied = listener.clone().proxy_protocol(networks(["127.0.0.1"]));
    let error = app(proxied).start().await.unwrap_err();
    assert!(error.message().contains("PROXY protocol"), "{error}");
    let _first = app(listener.clone()).start().await.unwrap();
    let error = app(listener).start().await.unwrap_err();
    assert!(error.message().contains("has a node already"), "{error}");
}
