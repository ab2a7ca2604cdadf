//! Whatever is queued for clients that do not read stays within the node's memory budget, and clients
//! that read go on.

use std::{
    collections::VecDeque,
    fs,
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use nano::{
    App, CloseReason, Config, Group, Limits, Listener, Node, code,
    packet::Decoder,
    transport::{Accepted, Acceptor, Transport},
};
use tokio::sync::mpsc;

use crate::{harness::Ends, support::eventually};

const KIB: usize = 1024;

/// A client that has shaken hands and takes what it is sent while `reads` is set.
struct Client {
    input: Bytes,
    reads: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
}

impl Transport for Client {
    fn poll_read(&mut self, _: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        let input = std::mem::take(&mut self.input);
        if input.is_empty() {
            return Poll::Pending;
        }
        into.feed(&input);
        Poll::Ready(Ok(input.len()))
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        if !self.reads.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let bytes: u64 = from.drain(..).map(|chunk| chunk.len() as u64).sum();
        *written += bytes;
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Clients(mpsc::UnboundedReceiver<Accepted<Client>>);

impl Acceptor for Clients {
    type Transport = Client;

    async fn accept(&mut self) -> io::Result<Accepted<Client>> {
        match self.0.recv().await {
            Some(client) => Ok(client),
            None => pending().await,
        }
    }
}

struct World {
    node: Node,
    ends: Ends,
    room: Group,
    connect: mpsc::UnboundedSender<Accepted<Client>>,
}

impl World {
    async fn new(app: App) -> Self {
        let (connect, clients) = mpsc::unbounded_channel();
        let (app, ends) = Ends::of(app);
        let listener = Listener::custom(Clients(clients));
        let node = app.listen(listener).start().await.unwrap();
        let room = Group::new("room");
        Self {
            node,
            ends,
            room,
            connect,
        }
    }

    /// Adds a client that takes the handshake reply, and no more unless it `reads`. Returns what it has
    /// taken.
    async fn join(&self, reads: bool) -> Arc<AtomicU64> {
        let (open, taken) = (Arc::new(AtomicBool::new(true)), Arc::<AtomicU64>::default());
        let client = Client {
            // A handshake, and its acknowledgement.
            input: Bytes::from_static(b"\x01\0\0\x02{}\x02\0\0\0"),
            reads: open.clone(),
            taken: taken.clone(),
        };
        let before = self.node.handle().sessions().count();
        assert!(self.connect.send(Accepted::new(client)).is_ok());
        eventually("the handshake reply", || taken.load(Ordering::Relaxed) > 0).await;
        assert_eq!(self.node.handle().sessions().count(), before + 1);
        open.store(reads, Ordering::Relaxed);
        for session in self.node.handle().sessions().list() {
            self.room.add(&session).unwrap();
        }
        taken
    }
}

#[tokio::test]
async fn clients_that_do_not_read_are_disconnected_at_the_budget_and_readers_lose_nothing() {
    let limits = Limits::new()
        .send_queue_bytes(1024 * KIB)
        .memory(1024 * KIB);
    let world = World::new(App::new().limits(limits)).await;
    for _ in 0..20 {
        world.join(false).await;
    }
    let reader = world.join(true).await;
    let begun = reader.load(Ordering::Relaxed);
    let body = vec![b'x'; KIB];
    // 6 MiB for those that do not read, each of whose queues has room for its own.
    let (mut sent, mut size) = (0, 0);
    while sent < 300 {
        // The reader must not look slow only because its task has no time.
        eventually("the reader keeps up", || {
            reader.load(Ordering::Relaxed) >= begun + sent * size
        })
        .await;
        world.room.broadcast_raw("onState", body.clone()).ok();
        sent += 1;
        if size == 0 {
            eventually("a push", || reader.load(Ordering::Relaxed) > begun).await;
            size = reader.load(Ordering::Relaxed) - begun;
        }
    }
    eventually("all that do not read are gone", || {
        world.node.handle().sessions().count() == 1
    })
    .await;
    eventually("the reader has all", || {
        reader.load(Ordering::Relaxed) == begun + 300 * size
    })
    .await;
    eventually("their callbacks have run", || world.ends.count() == 20).await;
    assert_eq!(world.ends.last(), CloseReason::SlowClient);
}

#[tokio::test]
async fn a_budget_below_the_queue_of_one_client_is_refused() {
    let limits = Limits::new()
        .send_queue_bytes(64 * KIB)
        .memory(64 * KIB - 1);
    let error = App::new()
        .listen(Listener::tcp("127.0.0.1:0"))
        .limits(limits)
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.code(), code::BAD_REQUEST);
    assert!(
        error.message().starts_with("limits.memory is 65535"),
        "{error}"
    );
}

#[tokio::test]
async fn a_reload_of_the_budget_counts_what_is_queued_and_lifts_the_pressure() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let write = |memory: &str| {
        let limits = "send_queue_bytes = \"64KiB\"\nslow_client = \"drop-pushes\"";
        fs::write(&file, format!("[limits]\n{limits}\n{memory}")).unwrap();
    };
    write("memory = \"off\"");
    let config = Config::load(&file).unwrap();
    let world = World::new(App::new().config(&config)).await;
    let reload = async |memory: &str| {
        write(memory);
        world.node.handle().reload().await.unwrap();
    };
    world.join(false).await;
    let stalled = world.node.handle().sessions().list().pop().unwrap();
    world.join(false).await;
    let push = |bytes: usize| stalled.push_raw("onState", vec![b'x'; bytes]);
    // Queued while there is no budget.
    push(52 * KIB).unwrap();

    // 80 % of it is used, so that the fullest queue refuses more; no client is disconnected.
    reload("memory = \"64KiB\"").await;
    eventually("a push is refused", || push(1).is_err()).await;
    assert_eq!(push(1).unwrap_err().code(), code::TOO_MANY);
    for room in ["memory = \"128KiB\"", "memory = \"off\"", ""] {
        reload(room).await;
        eventually("a push is taken", || push(1).is_ok()).await;
        reload("memory = \"64KiB\"").await;
        eventually("a push is refused", || push(1).is_err()).await;
    }

    // A budget that is used up already: nothing more needs to be pushed.
    reload("memory = \"off\"").await;
    eventually("a push is taken", || push(1).is_ok()).await;
    for session in world.node.handle().sessions().list() {
        while session.push_raw("onState", vec![b'x'; KIB]).is_ok() {}
    }
    assert_eq!(world.ends.count(), 0);
    reload("memory = \"64KiB\"").await;
    eventually("both are disconnected", || world.ends.count() == 2).await;
    assert_eq!(world.ends.last(), CloseReason::SlowClient);
}
