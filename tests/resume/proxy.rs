//! A TCP proxy that loses connections.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How a connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Reset,
    End,
    /// Nothing arrives any more, and neither end gets an error.
    Silence,
}

/// When and how the next connection is lost; `None` if it is not.
type Plan = Arc<Mutex<Box<dyn FnMut() -> Option<(usize, Loss)> + Send>>>;

/// Forwards connections to servers, to one after the other. After some bytes, which may be inside a
/// packet or in the handshake, each is lost.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    plan: Plan,
    healed: Arc<AtomicBool>,
    lost: Arc<Mutex<usize>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(
        servers: Vec<SocketAddr>,
        plan: impl FnMut() -> Option<(usize, Loss)> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan: Plan = Arc::new(Mutex::new(Box::new(plan)));
        let lost = Arc::new(Mutex::new(0));
        let healed = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let (plans, count, heals) = (plan.clone(), lost.clone(), healed.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for server in servers.into_iter().cycle() {
                let (client, _) = listener.accept().await.unwrap();
                let (plan, count, healed) = ((plans.lock())(), count.clone(), heals.clone());
                connections.spawn(forward(client, server, plan, count, healed));
            }
        });
        Self {
            address,
            plan,
            healed,
            lost,
            _tasks: tasks,
        }
    }

    /// Loses connections after a random number of bytes, in random ways.
    pub(crate) async fn random(servers: Vec<SocketAddr>, seed: u64, most: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut first = true;
        Self::start(servers, move || {
            if std::mem::take(&mut first) {
                // Its handshake has no session to return to.
                return Some((most, Loss::Reset));
            }
            let bytes = if random.random_ratio(1, 5) {
                random.random_range(0..200)
            } else {
                random.random_range(0..most)
            };
            let loss = [Loss::Reset, Loss::End, Loss::Silence][random.random_range(0..3)];
            Some((bytes, loss))
        })
        .await
    }

    /// Loses no more connections. Those that are silent stay so.
    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::SeqCst);
        *self.plan.lock() = Box::new(|| None);
    }

    pub(crate) fn losses(&self) -> usize {
        *self.lost.lock()
    }
}

async fn forward(
    mut client: TcpStream,
    server: SocketAddr,
    plan: Option<(usize, Loss)>,
    count: Arc<Mutex<usize>>,
    healed: Arc<AtomicBool>,
) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let mut left = plan.map_or(usize::MAX, |(bytes, _)| bytes);
    let (mut up, mut down) = ([0; 2048], [0; 2048]);
    while left > 0 {
        // Asked for before the bytes move: a connection that has lost some of them never goes on.
        if healed.load(Ordering::SeqCst) {
            left = usize::MAX;
        }
        let moved = tokio::select! {
            read = client.read(&mut up) => copy(read, &up, &mut server, left).await,
            read = server.read(&mut down) => copy(read, &down, &mut client, left).await,
        };
        let Some(moved) = moved else { return };
        left -= moved;
    }
    *count.lock() += 1;
    match plan {
        Some((_, Loss::Reset)) => {
            for socket in [&client, &server] {
                socket.set_zero_linger().unwrap();
            }
        }
        Some((_, Loss::Silence)) => tokio::time::sleep(Duration::from_secs(60)).await,
        _ => {}
    }
}

/// Writes at most `left` of the bytes that were read; `None` at the end of the stream.
async fn copy(
    read: std::io::Result<usize>,
    from: &[u8],
    to: &mut TcpStream,
    left: usize,
) -> Option<usize> {
    let count = read.ok().filter(|count| *count > 0)?.min(left);
    to.write_all(&from[..count]).await.ok()?;
    Some(count)
}
