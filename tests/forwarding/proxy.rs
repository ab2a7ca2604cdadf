//! A network between nodes that can be broken: what others call a node goes through it.

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

/// Where those come from who can be cut off alone.
pub(crate) const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[derive(Clone, Copy, Default)]
struct State {
    /// Connections of an earlier one are broken.
    epoch: u64,
    /// Whether new ones are refused.
    down: bool,
    /// Whether nothing moves, and nothing breaks: as behind a firewall.
    frozen: bool,
}

/// The way to one node.
pub(crate) struct Way {
    /// What others call.
    pub(crate) address: String,
    /// Where the node listens.
    pub(crate) listen: String,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Way {
    pub(crate) async fn new() -> Self {
        Self::open(false).await
    }

    /// What happens to it happens to those only who come from [`FAR`].
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
                tokio::spawn(relay(from, target.clone(), state.subscribe()));
            }
        });
        Self {
            address,
            listen: listen.to_string(),
            state,
            accepting,
        }
    }

    /// Breaks all connections; new ones are fine.
    pub(crate) fn interrupt(&self) {
        self.state.send_modify(|state| state.epoch += 1);
    }

    /// Breaks all connections, and every new one, until it is healed.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| {
            *state = State {
                epoch: state.epoch + 1,
                down: true,
                ..*state
            }
        });
    }

    /// From now on nothing passes, until it is healed: what is sent meanwhile arrives then.
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

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(from: TcpStream, target: Arc<str>, mut state: watch::Receiver<State>) {
    let Ok(State {
        epoch, down: false, ..
    }) = state
        .wait_for(|state| !state.frozen)
        .await
        .map(|state| *state)
    else {
        return;
    };
    // Nobody there: the caller sees its connection end.
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
    // One end takes the other with it.
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
