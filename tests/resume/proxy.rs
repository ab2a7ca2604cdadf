//! A TCP proxy that loses connections.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use nano::packet::Kind;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::packets::Packets;

/// How long the ends of a lost connection are left to notice it: longer than their heartbeats and attempts take.
const HOLD: Duration = Duration::from_secs(3);

/// How many handshakes in a row are lost at random: a client has to return within its window.
const LOST_HANDSHAKES: usize = 3;

/// How a connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Reset,
    End,
    /// Nothing arrives any more, and neither end gets an error: a black hole.
    Silence,
    /// Half open: the client gets an error, the server hears nothing.
    OfClient,
    /// Half open: the server gets an error, the client hears nothing.
    OfServer,
}

const LOSSES: [Loss; 5] = [
    Loss::Reset,
    Loss::End,
    Loss::Silence,
    Loss::OfClient,
    Loss::OfServer,
];

/// Where a connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Anywhere,
    InPacket,
    /// Before the client has acknowledged the handshake.
    InHandshake,
    /// Behind the first message of the client.
    AfterMessage,
}

/// How a connection is lost, where, and after how many bytes of both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) place: Place,
    pub(crate) bytes: usize,
    pub(crate) loss: Loss,
}

impl Cut {
    pub(crate) fn after(bytes: usize, loss: Loss) -> Self {
        let place = Place::Anywhere;
        Self { place, bytes, loss }
    }

    pub(crate) fn after_message(loss: Loss) -> Self {
        let (place, bytes) = (Place::AfterMessage, 0);
        Self { place, bytes, loss }
    }

    /// One of six ways, all as likely.
    fn random(random: &mut StdRng, most: usize) -> Self {
        let bytes = match random.random_ratio(1, 4) {
            true => random.random_range(0..1500),
            false => random.random_range(0..most),
        };
        match random.random_range(0..6) {
            0 => Self::after(bytes, Loss::Reset),
            1 => Self::after(bytes, Loss::End),
            2 => Self::after(bytes, Loss::Silence),
            3 => Self::after(bytes, LOSSES[random.random_range(3..5)]),
            4 => Self {
                place: Place::InPacket,
                bytes,
                loss: LOSSES[random.random_range(0..2)],
            },
            _ => Self {
                place: Place::InHandshake,
                bytes: random.random_range(0..900),
                loss: LOSSES[random.random_range(0..LOSSES.len())],
            },
        }
    }

    fn name(self) -> &'static str {
        match (self.place, self.loss) {
            (Place::InPacket, _) => "inside a packet",
            (Place::InHandshake, _) => "in the handshake",
            (_, Loss::Reset) => "reset",
            (_, Loss::End) => "end",
            (_, Loss::Silence) => "silence",
            (_, Loss::OfClient | Loss::OfServer) => "half open",
        }
    }
}

/// What a proxy has done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) cuts: BTreeMap<&'static str, usize>,
    /// Acknowledged handshakes behind the first, at the gate of the first and at another.
    pub(crate) returns: [usize; 2],
    /// Connections that ended before that, other than by a cut.
    pub(crate) unanswered: usize,
    /// Messages that were read from the client, and from the server.
    pub(crate) messages: [usize; 2],
}

impl Counts {
    /// All cuts.
    pub(crate) fn lost(&self) -> usize {
        self.cuts.values().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, count) in &other.cuts {
            *self.cuts.entry(name).or_default() += count;
        }
        for side in 0..2 {
            self.returns[side] += other.returns[side];
            self.messages[side] += other.messages[side];
        }
        self.unanswered += other.unanswered;
    }
}

/// How the next connection is lost; `None` if it is not.
type Plan = Box<dyn FnMut() -> Option<Cut> + Send>;

struct State {
    plan: Plan,
    /// Chooses the server of each connection.
    random: StdRng,
    /// The server of the first connection.
    home: Option<SocketAddr>,
    healed: bool,
    counts: Counts,
}

/// Forwards the connections of one client to servers, to any of them each, and loses them.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(
        servers: Vec<SocketAddr>,
        seed: u64,
        plan: impl FnMut() -> Option<Cut> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            plan: Box::new(plan),
            random: StdRng::seed_from_u64(seed),
            home: None,
            healed: false,
            counts: Counts::default(),
        }));
        let mut tasks = JoinSet::new();
        let shared = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = servers[shared.lock().random.random_range(0..servers.len())];
                connections.spawn(connect(client, server, shared.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            state,
            _tasks: tasks,
        }
    }

    /// Loses connections after a random number of bytes, in random ways.
    pub(crate) async fn random(servers: Vec<SocketAddr>, seed: u64, most: usize) -> Self {
        let mut random = StdRng::seed_from_u64(!seed);
        let (mut first, mut handshakes) = (true, 0);
        Self::start(servers, seed, move || {
            if std::mem::take(&mut first) {
                // Its handshake has no session to return to.
                let bytes = 1500 + random.random_range(0..most);
                return Some(Cut::after(bytes, Loss::Reset));
            }
            let mut cut = Cut::random(&mut random, most);
            // The others may be lost there too, if they are lost early.
            handshakes = if cut.bytes < 1500 { handshakes + 1 } else { 0 };
            if handshakes > LOST_HANDSHAKES {
                (cut.place, cut.bytes, handshakes) = (Place::InPacket, 1500, 0);
            }
            Some(cut)
        })
        .await
    }

    /// Loses no more connections. Those that are lost stay so.
    pub(crate) fn heal(&self) {
        self.state.lock().healed = true;
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().counts.clone()
    }
}

/// A connection, in bytes. The first of two is the client.
struct Line {
    server: SocketAddr,
    cut: Option<Cut>,
    left: usize,
    packets: [Packets; 2],
    acknowledged: bool,
    spoken: bool,
    state: Arc<Mutex<State>>,
}

impl Line {
    /// How many of these bytes pass, and whether the connection is lost behind them.
    fn pass(&mut self, side: usize, bytes: &[u8]) -> (usize, bool) {
        // Asked for before the bytes move: a connection that has lost some of them never goes on.
        if self.state.lock().healed {
            self.cut = None;
        }
        for (at, byte) in bytes.iter().enumerate() {
            if self.is_lost(side) {
                return (at, true);
            }
            self.left = self.left.saturating_sub(1);
            if let Some(kind) = self.packets[side].push(*byte) {
                self.passed(side, kind);
            }
        }
        (bytes.len(), false)
    }

    /// Whether the next byte is the first that is lost.
    fn is_lost(&self, side: usize) -> bool {
        let acknowledges = || self.packets[0].kind() == Some(Kind::Ack as u8);
        self.cut.is_some_and(|cut| match cut.place {
            Place::Anywhere => self.left == 0,
            Place::InPacket => self.left == 0 && self.packets[side].is_inside(),
            Place::InHandshake => self.left == 0 || acknowledges(),
            Place::AfterMessage => self.spoken,
        })
    }

    fn passed(&mut self, side: usize, kind: u8) {
        let mut state = self.state.lock();
        if kind == Kind::Data as u8 {
            state.counts.messages[side] += 1;
            self.spoken |= side == 0;
        }
        if kind == Kind::Ack as u8 && side == 0 && !self.acknowledged {
            self.acknowledged = true;
            match state.home {
                None => state.home = Some(self.server),
                Some(home) => state.counts.returns[usize::from(home != self.server)] += 1,
            }
        }
    }
}

async fn connect(client: TcpStream, server: SocketAddr, state: Arc<Mutex<State>>) {
    let cut = (state.lock().plan)();
    let mut line = Line {
        server,
        left: cut.map_or(0, |cut| cut.bytes),
        cut,
        packets: Default::default(),
        acknowledged: false,
        spoken: false,
        state: state.clone(),
    };
    let Ok(server) = TcpStream::connect(server).await else {
        state.lock().counts.unanswered += 1;
        return;
    };
    let mut ends = [client, server];
    if forward(&mut ends, &mut line).await.is_none() {
        if !line.acknowledged {
            state.lock().counts.unanswered += 1;
        }
        return;
    }
    let cut = line.cut.unwrap();
    *(state.lock().counts.cuts.entry(cut.name())).or_default() += 1;
    tokio::spawn(lose(ends, cut.loss));
}

/// Forwards bytes until the connection is lost; `None` if it ends before that.
async fn forward(ends: &mut [TcpStream; 2], line: &mut Line) -> Option<()> {
    let (mut up, mut down) = ([0; 2048], [0; 2048]);
    let [client, server] = ends;
    loop {
        let lost = tokio::select! {
            read = client.read(&mut up) => step(0, line, read, &up, server).await?,
            read = server.read(&mut down) => step(1, line, read, &down, client).await?,
        };
        if lost {
            return Some(());
        }
    }
}

/// Passes on what was read; `None` at the end of the stream.
async fn step(
    side: usize,
    line: &mut Line,
    read: std::io::Result<usize>,
    from: &[u8],
    to: &mut TcpStream,
) -> Option<bool> {
    let count = read.ok().filter(|count| *count > 0)?;
    let (passed, lost) = line.pass(side, &from[..count]);
    to.write_all(&from[..passed]).await.ok()?;
    Some(lost)
}

async fn lose([mut client, mut server]: [TcpStream; 2], loss: Loss) {
    let reset = |socket: TcpStream| socket.set_zero_linger().unwrap();
    match loss {
        Loss::Reset => {
            reset(client);
            reset(server);
        }
        Loss::End => {
            let _ = (client.shutdown().await, server.shutdown().await);
            // With unread bytes it would be a reset.
            for socket in [&mut client, &mut server] {
                let _ = timeout(HOLD, copy(socket, &mut sink())).await;
            }
        }
        Loss::Silence => sleep(HOLD).await,
        Loss::OfClient => {
            reset(client);
            sleep(HOLD).await;
        }
        Loss::OfServer => {
            reset(server);
            sleep(HOLD).await;
        }
    }
}
