//! A client of bare packets.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use nano::{
    App, CloseReason, Component, Error, Handlers, Node, Raw, Result, Session,
    handshake::Reply,
    kick::Kick,
    message::{Dictionary, Kind, Message},
    packet::{self, Decoder, Packet},
};
use parking_lot::{Condvar, Mutex};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{DEADLINE, eventually, within};

/// Starts a node with one TCP listener in front of its others.
pub(crate) async fn start(app: App) -> Node {
    app.tcp("127.0.0.1:0").start().await.unwrap()
}

/// Does no more than a test of something else needs.
pub(crate) struct Echo;

impl Component<Raw> for Echo {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Echo", Self::echo).on("Kick", Self::kick)
    }
}

impl Echo {
    fn echo(&self, _: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn kick(&self, session: &Session<Raw>, _: ()) -> Result {
        session.kick("enough");
        Ok(())
    }
}

/// Holds threads until it is opened.
#[derive(Default)]
pub(crate) struct Latch {
    state: Mutex<LatchState>,
    opened: Condvar,
}

#[derive(Default)]
struct LatchState {
    open: bool,
    reached: usize,
}

impl Latch {
    pub(crate) fn wait(&self) {
        let mut state = self.state.lock();
        state.reached += 1;
        let result = self
            .opened
            .wait_while_for(&mut state, |state| !state.open, DEADLINE);
        assert!(!result.timed_out(), "the latch was never opened");
    }

    pub(crate) fn open(&self) {
        self.state.lock().open = true;
        self.opened.notify_all();
    }

    /// Waits until this many threads have come to it.
    pub(crate) async fn reached(&self, threads: usize) {
        eventually("the latch is reached", || {
            self.state.lock().reached >= threads
        })
        .await;
    }
}

/// The reasons for which sessions closed, in order.
#[derive(Clone, Default)]
pub(crate) struct Ends(Arc<Mutex<Vec<CloseReason>>>);

impl Ends {
    pub(crate) fn of(app: App) -> (App, Self) {
        let ends = Self::default();
        let reasons = ends.0.clone();
        (
            app.on_session_closed(move |_, reason| reasons.lock().push(reason.clone())),
            ends,
        )
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// The reason of the session that closed first.
    pub(crate) async fn first(&self) -> CloseReason {
        eventually("a session closes", || self.count() > 0).await;
        self.0.lock()[0].clone()
    }
}

impl Ends {
    /// The reason of the session that closed last.
    pub(crate) fn last(&self) -> CloseReason {
        self.0.lock().last().cloned().unwrap()
    }
}

pub(crate) fn packet(kind: packet::Kind, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    packet::encode(kind, body, &mut out).unwrap();
    out.to_vec()
}

/// A data packet.
pub(crate) fn data(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(&Dictionary::default(), &mut out).unwrap();
    packet(packet::Kind::Data, &out)
}

/// What opens a connection, both packets of it.
pub(crate) fn greeting() -> Vec<u8> {
    [
        packet(packet::Kind::Handshake, br#"{"sys":{"errorFlag":true}}"#),
        packet(packet::Kind::Ack, b""),
    ]
    .concat()
}

pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// One client. It reads only when it is asked to.
pub(crate) struct Client {
    wire: Box<dyn Wire>,
    address: Option<SocketAddr>,
    decoder: Decoder,
    /// Messages that came while another one was waited for.
    early: VecDeque<Message>,
    kicked: Option<String>,
    last_id: u64,
    /// Bytes that went out and came in.
    pub(crate) sent: usize,
    pub(crate) received: usize,
}

impl Client {
    /// By TCP to the first listener, handshake included.
    pub(crate) async fn connect(node: &Node) -> Self {
        let mut client = Self::dial(node.addresses()[0]).await;
        client.shake_hands().await;
        client
    }

    /// By TCP, without a word.
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        let address = stream.local_addr().unwrap();
        Self {
            address: Some(address),
            ..Self::over(stream)
        }
    }

    pub(crate) fn over(wire: impl Wire + 'static) -> Self {
        let decoder = Decoder::new(packet::MAX_BODY);
        Self {
            wire: Box::new(wire),
            address: None,
            decoder,
            early: VecDeque::new(),
            kicked: None,
            last_id: 0,
            sent: 0,
            received: 0,
        }
    }

    pub(crate) async fn shake_hands(&mut self) -> Reply {
        self.send(&packet(
            packet::Kind::Handshake,
            br#"{"sys":{"type":"test","version":"1","errorFlag":true}}"#,
        ))
        .await;
        let reply = loop {
            let packet = self
                .packet()
                .await
                .expect("the connection ended during the handshake");
            if packet.kind == packet::Kind::Handshake {
                break Reply::decode(&packet.body).unwrap();
            }
        };
        self.send(&packet(packet::Kind::Ack, b"")).await;
        reply
    }

    /// Its session, as the node has it.
    pub(crate) async fn session(&self, node: &Node) -> Session {
        let find = || {
            node.handle()
                .sessions()
                .list()
                .into_iter()
                .find(|session| session.remote_addr() == self.address)
        };
        eventually("the session opens", || find().is_some()).await;
        find().unwrap()
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within("room to send", self.wire.write_all(bytes))
            .await
            .unwrap();
        within("room to send", self.wire.flush()).await.unwrap();
        self.sent += bytes.len();
    }

    /// Sends a request; its id.
    pub(crate) async fn request(&mut self, route: &str, body: impl Into<Bytes>) -> u64 {
        self.last_id += 1;
        self.send(&data(&Message::request(self.last_id, route, body)))
            .await;
        self.last_id
    }

    pub(crate) async fn notify(&mut self, route: &str, body: impl Into<Bytes>) {
        self.send(&data(&Message::notify(route, body))).await;
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&mut self, route: &str, body: impl Into<Bytes>) -> Result<Bytes> {
        let id = self.request(route, body).await;
        self.answer(id).await
    }

    /// [`ask`](Client::ask) where an error is expected; its code.
    pub(crate) async fn ask_in_vain(&mut self, route: &str, body: impl Into<Bytes>) -> String {
        self.ask(route, body).await.unwrap_err().code().to_string()
    }

    /// Waits for the answer of a request; other messages keep until they are asked for.
    pub(crate) async fn answer(&mut self, id: u64) -> Result<Bytes> {
        let message = self
            .find(|message| message.kind == Kind::Response && message.id == id)
            .await;
        if message.error {
            Err(Error::from_body(&message.body))
        } else {
            Ok(message.body)
        }
    }

    /// Waits for the next push of a route.
    pub(crate) async fn push(&mut self, route: &str) -> Bytes {
        self.find(|message| message.kind == Kind::Push && message.route == route)
            .await
            .body
    }

    /// The next message, whatever it is.
    pub(crate) async fn message(&mut self) -> Message {
        self.find(|_| true).await
    }

    async fn find(&mut self, wanted: impl Fn(&Message) -> bool) -> Message {
        if let Some(at) = self.early.iter().position(&wanted) {
            return self.early.remove(at).unwrap();
        }
        within("a message", async {
            loop {
                let message = self.receive().await.expect("the connection ended");
                if wanted(&message) {
                    return message;
                }
                self.early.push_back(message);
            }
        })
        .await
    }

    /// Reads until the connection ends; the reason it was given in a kick.
    pub(crate) async fn end(&mut self) -> Option<String> {
        within("the end of the connection", async {
            while self.receive().await.is_some() {}
        })
        .await;
        self.kicked.clone()
    }

    async fn receive(&mut self) -> Option<Message> {
        loop {
            let packet = self.packet().await?;
            match packet.kind {
                packet::Kind::Data => {
                    return Some(Message::decode(packet.body, &Dictionary::default()).unwrap());
                }
                packet::Kind::Kick => self.kicked = Some(Kick::decode(&packet.body).reason),
                packet::Kind::Handshake | packet::Kind::Ack | packet::Kind::Heartbeat => {}
            }
        }
    }

    /// The next packet; `None` at the end of the connection.
    pub(crate) async fn packet(&mut self) -> Option<Packet> {
        let mut chunk = vec![0; 16 * 1024];
        loop {
            if let Some(packet) = self.decoder.decode().unwrap() {
                return Some(packet);
            }
            // A reset ends it as well.
            match within(
                "a packet, or the end of the connection",
                self.wire.read(&mut chunk),
            )
            .await
            {
                Ok(0) | Err(_) => return None,
                Ok(count) => {
                    self.received += count;
                    self.decoder.feed(&chunk[..count]);
                }
            }
        }
    }
}
