//! What stands in front of the gates.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Sends each connection to the gate that takes clients.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    gate: Arc<Mutex<SocketAddr>>,
    _tasks: JoinSet<()>,
}

impl Front {
    pub(crate) async fn start(gate: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Mutex::new(gate));
        let to = gate.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let to = *to.lock();
                connections.spawn(async move {
                    if let Ok(mut gate) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut client, &mut gate).await;
                    }
                });
            }
        });
        Self {
            address,
            gate,
            _tasks: tasks,
        }
    }

    /// Sends connections to this gate from now on.
    pub(crate) fn turn_to(&self, gate: SocketAddr) {
        *self.gate.lock() = gate;
    }
}
