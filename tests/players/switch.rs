//! The network between nodes that are processes: a proxy in front of each, and pairs of nodes can be
//! cut off from each other. Nodes differ in the addresses that their connections come from.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::support::free_address;

/// The last byte of the address of node 0.
const FIRST: u8 = 10;

/// How two nodes are cut off from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Bytes stop without an error, and arrive when the cut is over.
    Silent,
    /// Connections break, and new ones are refused.
    Broken,
}

type Cuts = BTreeMap<(usize, usize), Cut>;

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// The cuts of all pairs of nodes.
#[derive(Default)]
pub(crate) struct Switch(watch::Sender<Cuts>);

/// Where a node is on the network.
#[derive(Clone)]
pub(crate) struct Port {
    /// Where it listens for the proxy.
    pub(crate) listen: String,
    /// Where other nodes dial it.
    pub(crate) address: String,
    /// Where its connections come from.
    pub(crate) source: IpAddr,
}

impl Switch {
    /// Gives a node its place on the network. It may start there again and again.
    pub(crate) async fn port(&self, node: usize) -> Port {
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let last = FIRST + u8::try_from(node).unwrap();
        let port = Port {
            listen: free_address(),
            address: outside.local_addr().unwrap().to_string(),
            source: Ipv4Addr::new(127, 0, 0, last).into(),
        };
        let (to, cuts) = (port.listen.clone(), self.0.clone());
        tokio::spawn(async move {
            loop {
                let (from, caller) = outside.accept().await.unwrap();
                let IpAddr::V4(caller) = caller.ip() else {
                    continue;
                };
                let other = usize::from(caller.octets()[3] - FIRST);
                tokio::spawn(pass_on(
                    from,
                    to.clone(),
                    pair(node, other),
                    cuts.subscribe(),
                ));
            }
        });
        port
    }

    pub(crate) fn cut(&self, a: usize, b: usize, cut: Cut) {
        self.0.send_modify(|cuts| {
            cuts.insert(pair(a, b), cut);
        });
    }

    /// Ends all cuts.
    pub(crate) fn heal(&self) {
        self.0.send_modify(Cuts::clear);
    }
}

async fn pass_on(
    from: TcpStream,
    to: String,
    pair: (usize, usize),
    mut cuts: watch::Receiver<Cuts>,
) {
    let is = move |cuts: &Cuts, cut| cuts.get(&pair) == Some(&cut);
    let silent = cuts.wait_for(|cuts| !is(cuts, Cut::Silent)).await;
    if silent.map_or(true, |cuts| is(&cuts, Cut::Broken)) {
        return;
    }
    // The node does not listen: the caller sees its connection end.
    let Ok(to) = TcpStream::connect(&*to).await else {
        return;
    };
    from.set_nodelay(true).unwrap();
    to.set_nodelay(true).unwrap();
    let ((from, back), (answers, to)) = (from.into_split(), to.into_split());
    // When one direction ends, so does the other.
    tokio::select! {
        () = pass(from, to, pair, cuts.clone()) => {}
        () = pass(answers, back, pair, cuts.clone()) => {}
        _ = cuts.wait_for(|cuts| is(cuts, Cut::Broken)) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    pair: (usize, usize),
    mut cuts: watch::Receiver<Cuts>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        // An end does not pass either.
        let silent = cuts.wait_for(|cuts| cuts.get(&pair) != Some(&Cut::Silent));
        if silent.await.is_err() || read == 0 || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
