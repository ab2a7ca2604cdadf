//! A way to a node that can be blocked for some, as by a firewall: nothing arrives, nobody is told.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
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

/// Where those come from who can be blocked.
pub(crate) const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Leads to this address.
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(watch::Sender::new(true));
        let gate = open.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (from, caller) = listener.accept().await.unwrap();
                let open = if caller.ip() == FAR { gate.subscribe() } else { watch::Sender::new(true).subscribe() };
                tokio::spawn(connect(from, target.clone(), open));
            }
        });
        Self { address, open, accepting }
    }

    /// From now on nothing passes from or to [`FAR`], until it is opened: what is sent meanwhile arrives then.
    pub(crate) fn block(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connect(from: TcpStream, target: String, mut open: watch::Receiver<bool>) {
    if open.wait_for(|open| *open).await.is_err() {
        return;
    }
    // Nobody there: the caller sees its connection end.
    let Ok(to) = TcpStream::connect(target).await else { return };
    from.set_nodelay(true).unwrap();
    to.set_nodelay(true).unwrap();
    let ((from, back), (answers, to)) = (from.into_split(), to.into_split());
    // One end takes the other with it.
    tokio::select! {
        () = pass(from, to, open.clone()) => {}
        () = pass(answers, back, open) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        // An end does not pass either.
        if open.wait_for(|open| *open).await.is_err() || read == 0 || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
