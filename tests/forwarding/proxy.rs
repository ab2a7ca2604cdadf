//! A TCP proxy in front of a node that breaks, refuses or stalls connections.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// The source address of nodes that a proxy [for it](Proxy::for_far) can cut off alone.
pub(crate) const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[derive(Clone, Copy, Default)]
struct State {
    /// Connections of an earlier epoch are broken.
    epoch: u64,
    /// Whether new connections are refused.
    down: bool,
    /// Whether bytes stop without an error, as behind a firewall.
    frozen: bool,
}

/// A proxy in front of one node. It passes bytes until a fault is injected.
pub(crate) struct Proxy {
    /// The address other nodes dial.
    pub(crate) address: String,
    /// The address the node listens on.
    pub(crate) listen: String,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn new() -> Self {
        Self::open(false).await
    }

    /// A proxy whose faults affect only connections from [`FAR`].
    pub(crate) async fn for_far() -> Self {
        Self::open(true).await
    }

    async fn open(for_far: bool) -> Self {
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = outside.local_addr().unwrap().to_string();
        let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen: Arc<str> = inside.local_addr().unwrap().to_string().into();
        drop(inside);
        let (state, unchanged) = (
            watch::Sender::new(State::default()),
            watch::Sender::new(State::default()),
        );
        let (target, seen) = (listen.clone(), state.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (from, caller) = outside.accept().await.unwrap();
                let state = if for_far && caller.ip() != FAR {
                    &unchanged
                } else {
                    &seen
                };
                tokio::spawn(pass_on(from, target.clone(), state.subscribe()));
            }
        });
        Self {
            address,
            listen: listen.to_string(),
            state,
            accepting,
        }
    }

    /// Breaks all connections; new ones are accepted.
    pub(crate) fn interrupt(&self) {
        self.state.send_modify(|state| state.epoch += 1);
    }

    /// Breaks all connections and refuses new ones, until [`heal`](Proxy::heal).
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| {
            *state = State {
                epoch: state.epoch + 1,
                down: true,
                ..*state
            }
        });
    }

    /// Stalls all connections until [`heal`](Proxy::heal): what is sent meanwhile arrives then.
    pub(crate) fn freeze(&self) {
        self.state.send_modify(|state| state.frozen = true);
    }

    pub(crate) fn heal(&self) {
        self.state.send_modify(|state| {
            *state = State {
                epoch: state.epoch,
                ..State::default()
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass_on(from: TcpStream, target: Arc<str>, mut state: watch::Receiver<State>) {
    let Ok(State {
        epoch, down: false, ..
    }) = state
        .wait_for(|state| !state.frozen)
        .await
        .map(|state| *state)
    else {
        return;
    };
    // The node does not listen: the caller sees its connection end.
    let Ok(to) = TcpStream::connect(&*target).await else {
        return;
    };
    from.set_nodelay(true).unwrap();
    to.set_nodelay(true).unwrap();
    let ((from, back), (answers, to)) = (from.into_split(), to.into_split());
    let (there, here) = (
        pass(from, to, state.clone()),
        pass(answers, back, state.clone()),
    );
    // When one direction ends, so does the other.
    tokio::select! {
        () = there => {}
        () = here => {}
        _ = state.wait_for(|state| state.epoch != epoch) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        // An end does not pass either.
        if state.wait_for(|state| !state.frozen).await.is_err()
            || read == 0
            || to.write_all(&bytes[..read]).await.is_err()
        {
            return;
        }
    }
}
