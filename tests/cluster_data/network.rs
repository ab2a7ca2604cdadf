//! A network between nodes that can be broken: what others call a node goes through it.

use std::sync::Arc;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    /// Connections of an earlier epoch are broken.
    Up(u64),
    Down,
    /// Nothing moves, and nothing breaks.
    Frozen,
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
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = outside.local_addr().unwrap().to_string();
        let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen: Arc<str> = inside.local_addr().unwrap().to_string().into();
        drop(inside);
        let (state, seen) = watch::channel(State::Up(0));
        let target = listen.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (from, _) = outside.accept().await.unwrap();
                tokio::spawn(relay(from, target.clone(), seen.clone()));
            }
        });
        Self { address, listen: listen.to_string(), state, accepting }
    }

    /// Breaks all connections; new ones are fine.
    pub(crate) fn interrupt(&self) {
        let next = match *self.state.borrow() {
            State::Up(epoch) => State::Up(epoch + 1),
            other => other,
        };
        self.state.send_replace(next);
    }

    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Down);
    }

    pub(crate) fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    pub(crate) fn heal(&self) {
        self.state.send_replace(State::Up(u64::MAX / 2));
    }
}

async fn relay(mut from: TcpStream, target: Arc<str>, mut state: watch::Receiver<State>) {
    let State::Up(epoch) = *state.borrow() else { return };
    let Ok(mut to) = TcpStream::connect(&*target).await else { return };
    let broken = tokio::select! {
        _ = copy_bidirectional(&mut from, &mut to) => true,
        state = state.wait_for(|state| *state != State::Up(epoch)) => state.is_ok_and(|state| *state != State::Frozen),
    };
    if !broken {
        // Both ends stay open until the network moves again.
        let _ = state.wait_for(|state| *state != State::Frozen).await;
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
