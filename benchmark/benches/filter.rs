//! What a filter adds to a message, in nanoseconds: exchanges with nodes that differ in their filters
//! take turns, and the fastest of each counts.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use nano::{
    App, Component, Error, Handlers, Node, Result, Session, code,
    filter::{self, Flow, LoadShed, RouteTiming},
    message::{Dictionary, Message},
    packet::{self, HEADER, Kind},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
    time::Instant,
};

/// Requests of one exchange, all sent at once.
const DEPTH: u64 = 64;
const ROUNDS: usize = 20_000;

struct Echo;

impl Component for Echo {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Sync", Self::echo).raw("Async", Self::echo_later)
    }
}

impl Echo {
    fn echo(&self, _: &Session, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    async fn echo_later(self: Arc<Self>, _: Session, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }
}

struct Client {
    stream: TcpStream,
    said: BytesMut,
    heard: Vec<u8>,
    best: Duration,
}

impl Client {
    async fn connect(node: &Node, route: &str) -> Self {
        let (mut said, mut hello) = (BytesMut::new(), BytesMut::new());
        packet::encode(Kind::Handshake, b"{}", &mut hello).unwrap();
        packet::encode(Kind::Ack, b"", &mut hello).unwrap();
        for id in 1..=DEPTH {
            let message = Message::request(id, route.to_owned(), vec![b'x'; 64]);
            packet::encode_with(Kind::Data, &mut said, |out| {
                message
                    .encode(&Dictionary::default(), out)
                    .map_err(Error::from)
            })
            .unwrap();
        }
        let address = node.addresses()[0];
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&hello).await.unwrap();
        let mut head = [0; HEADER];
        stream.read_exact(&mut head).await.unwrap();
        let mut reply = vec![0; usize::from(head[2]) * 256 + usize::from(head[3])];
        stream.read_exact(&mut reply).await.unwrap();
        let answer = HEADER + 2 + 64;
        Self {
            stream,
            said,
            heard: vec![0; answer * DEPTH as usize],
            best: Duration::MAX,
        }
    }

    async fn exchange(&mut self) {
        let start = Instant::now();
        self.stream.write_all(&self.said).await.unwrap();
        self.stream.read_exact(&mut self.heard).await.unwrap();
        self.best = self.best.min(start.elapsed());
    }
}

async fn node(filters: impl FnOnce(App) -> App) -> Node {
    let app = App::new().component(Echo).tcp("127.0.0.1:0");
    filters(app.scheduler_threads(None)).start().await.unwrap()
}

fn check(app: App) -> App {
    app.filter(filter::before(|call| match call.session().uid() {
        0 => Ok(Flow::Continue),
        _ => Err(Error::new(code::FORBIDDEN, "log out first")),
    }))
}

fn main() {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let nodes = [
                ("none", node(|app| app).await),
                ("none again", node(|app| app).await),
                ("one", node(check).await),
                (
                    "eight",
                    node(|app| (0..8).fold(app, |app, _| check(app))).await,
                ),
                ("RouteTiming", node(|app| app.filter(RouteTiming)).await),
                (
                    "LoadShed",
                    node(|app| app.filter(LoadShed::new(Duration::from_secs(9)))).await,
                ),
            ];
            for route in ["Echo.Sync", "Echo.Async"] {
                let mut clients = Vec::new();
                for (_, node) in &nodes {
                    clients.push(Client::connect(node, route).await);
                }
                for _ in 0..ROUNDS {
                    for client in &mut clients {
                        client.exchange().await;
                    }
                }
                let base = clients[0].best.as_nanos() as f64 / DEPTH as f64;
                println!("{route}: {base:.0} ns a message without a filter");
                for ((name, _), client) in nodes.iter().zip(&clients).skip(1) {
                    let all = client.best.as_nanos() as f64 / DEPTH as f64;
                    println!("{route}: {name:<12} {:+.0} ns", all - base);
                }
            }
        });
}
