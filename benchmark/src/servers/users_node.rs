//! A node of the directory's curves. Its clients are in this process; requests over TCP control it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use nano::{
    App, Cluster, Component, Error, Handlers, Listener, Options, Result, Session, Timeouts, Unique,
    UserId, code,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{recorder::Exporter, services::Echo};
use crate::growth::readers::with_readers;

/// Logins at a time, of many.
const AT_ONCE: usize = 64;
/// How long a change of the view may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How exactly the time of such a change is known.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Where the master is; this node is the master if it is not given.
    #[arg(long)]
    master: Option<String>,
    /// Where other nodes connect.
    #[arg(long, default_value = "127.0.0.1:0")]
    serve: String,
    /// How many clients it has.
    #[arg(long, default_value_t = 0)]
    clients: usize,
    /// It has the service `Echo`.
    #[arg(long)]
    echo: bool,
}

/// The nodes that are in a node's view.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Nodes(pub(crate) usize);

/// Log in these clients, each as a user of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogIn {
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// The number of the first user.
    pub(crate) user: i64,
    /// The ids are UUIDs.
    pub(crate) text: bool,
}

/// Log in the first clients as these users, all at once, as soon as the view has that many nodes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    pub(crate) nodes: usize,
    pub(crate) users: Vec<i64>,
}

/// When things happened, in microseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) view: u64,
    /// By user.
    pub(crate) logins: Vec<u64>,
}

pub(crate) async fn run(flags: &Flags) -> Result {
    let exporter = Exporter::default();
    metrics::set_global_recorder(exporter.clone())?;
    let cluster = match &flags.master {
        Some(master) => Cluster::join([master]),
        None => Cluster::master(),
    };
    let (clients, known) = watch::channel(Vec::new());
    let drive = Drive {
        exporter,
        clients: known,
    };
    let local = Options::new().name("Local");
    let mut app = App::new().component(drive).component_with(Echo, local);
    if flags.echo {
        app = app.component(Echo);
    }
    if flags.clients > 0 {
        (app, _) = with_readers(app, flags.clients);
    }
    let node = app
        .unique_users(Unique::Replace)
        .timeouts(Timeouts::new().heartbeat(None).request(None))
        .cluster(cluster.listen(&flags.serve))
        .listen(Listener::tcp("127.0.0.1:0"))
        .start()
        .await?;
    while node.handle().sessions().count() < flags.clients {
        sleep(LOOK).await;
    }
    // Before others connect over TCP.
    clients.send_replace(node.handle().sessions().list());
    let address = node.addresses().first();
    let address = address.map(ToString::to_string).unwrap_or_default();
    let member = node.handle().member();
    let member = member.map_or_else(String::new, |member| member.address().to_owned());
    println!("listening on {address} {member}");
    node.run().await
}

/// What controls the node.
struct Drive {
    exporter: Exporter,
    clients: watch::Receiver<Vec<Session>>,
}

impl Component for Drive {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("View", Self::view)
            .on("LogIn", Self::log_in)
            .on("Probe", Self::probe)
    }
}

impl Drive {
    /// Waits until the view has so many nodes. Returns when that was.
    async fn view(self: Arc<Self>, _: Session, nodes: Nodes) -> Result<u64> {
        self.reaches(nodes.0).await
    }

    /// Returns how many have logged in: a handler that returns nothing sends no answer.
    async fn log_in(self: Arc<Self>, _: Session, wanted: LogIn) -> Result<usize> {
        let clients = self.clients.borrow()[wanted.first..][..wanted.count].to_vec();
        let logins = clients.into_iter().zip(wanted.user..);
        let logins = logins.map(|(client, user)| async move {
            client.login(user_id(user, wanted.text)).await.map(drop)
        });
        let logins = stream::iter(logins).buffer_unordered(AT_ONCE);
        logins.try_fold(0, async |count, ()| Ok(count + 1)).await
    }

    async fn probe(self: Arc<Self>, _: Session, probe: Probe) -> Result<Times> {
        let clients = self.clients.borrow()[..probe.users.len()].to_vec();
        let view = self.reaches(probe.nodes).await?;
        let logins = clients.into_iter().zip(probe.users);
        let logins = logins.map(|(client, user)| async move {
            client.login(user).await?;
            Ok::<_, Error>(now())
        });
        let logins = join_all(logins).await.into_iter().collect::<Result<_>>()?;
        Ok(Times { view, logins })
    }

    async fn reaches(&self, nodes: usize) -> Result<u64> {
        let known = || self.exporter.gauge("nano_directory_nodes") as usize;
        let reached = async {
            while known() != nodes {
                sleep(LOOK).await;
            }
            now()
        };
        let begun = Instant::now();
        timeout(LIMIT, reached).await.map_err(|_| {
            let (known, waited) = (known(), begun.elapsed());
            let text = format!("{known} nodes instead of {nodes} after {waited:?}");
            Error::new(code::TIMEOUT, text)
        })
    }
}

/// The id of a user: its number, or a UUID.
pub(crate) fn user_id(user: i64, text: bool) -> UserId {
    match text {
        true => format!("{user:08x}-0000-4000-8000-{user:012x}").into(),
        false => user.into(),
    }
}

/// In microseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
