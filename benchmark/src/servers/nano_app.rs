//! Our servers, with the options a user would run with: heartbeats, limits, timeouts and metrics
//! are on.

use clap::{Args, ValueEnum};
use nano::{App, Cluster, Error, Limits, Listener, Options, Result, Traces, code};

use super::{
    recorder::Exporter,
    rooms::{Lobby, Room, SCHEDULER},
    services::{Caller, Echo, Grp, Pb},
};

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Which server this is.
    #[arg(long, value_enum, default_value_t = Role::Standalone)]
    role: Role,
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Clients speak WebSocket, at this path.
    #[arg(long)]
    ws: Option<String>,
    /// A certificate and its key, PEM files, for TLS.
    #[arg(long, num_args = 2, value_names = ["CERTIFICATE", "KEY"])]
    tls: Option<Vec<String>>,
    /// How much may be queued for clients and nodes, in MiB.
    #[arg(long)]
    memory_mib: Option<usize>,
    /// The part of the messages that is traced, from 0 to 1. Spans are made with
    /// `RUST_LOG=nano::trace=info`.
    #[arg(long)]
    trace_ratio: Option<f64>,
    /// Where operators connect.
    #[arg(long)]
    admin: Option<String>,
    /// Where other nodes connect.
    #[arg(long, default_value = "127.0.0.1:0")]
    serve: String,
    /// Where the master is.
    #[arg(long)]
    master: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Clients and services in one.
    Standalone,
    /// Clients, and no service but the one that calls the backend's.
    Gate,
    /// Services.
    Backend,
    /// Neither.
    Master,
}

pub(crate) async fn run(flags: &Flags) -> Result {
    metrics::set_global_recorder(Exporter::default())?;
    let node = flags.app()?.start().await?;
    let clients = node
        .addresses()
        .iter()
        .map(|address| format!("listening on {address}\n"));
    let nodes = node
        .handle()
        .member()
        .map(|member| format!("serving nodes at {}\n", member.address()));
    // In one write: a reader of the first line may close the pipe.
    print!("{}", clients.chain(nodes).collect::<String>());
    node.run().await
}

impl Flags {
    fn app(&self) -> Result<App> {
        let mut app = App::new();
        if let Some(memory) = self.memory_mib {
            app = app.limits(Limits::new().memory(memory << 20));
        }
        if let Some(ratio) = self.trace_ratio {
            app = app.traces(Traces::new().ratio(ratio));
        }
        if let Some(admin) = &self.admin {
            app = app.admin(admin.as_str());
        }
        if self.role == Role::Master {
            app = app.cluster(Cluster::master().listen(&self.serve));
        } else if self.role != Role::Standalone {
            let master = self
                .master
                .as_deref()
                .ok_or_else(|| Error::new(code::BAD_REQUEST, "--master is needed"))?;
            app = app.cluster(Cluster::join([master]).listen(&self.serve));
        }
        if matches!(self.role, Role::Standalone | Role::Gate) {
            app = app.listen(self.listener()?);
        }
        Ok(match self.role {
            Role::Master => app,
            Role::Gate => app.component(Caller),
            Role::Standalone | Role::Backend => app
                .component(Echo)
                .component_with(Pb, Options::new().name("PB"))
                .component(Grp::default())
                .component(Lobby::default())
                .component_with(Room, Options::new().scheduler(SCHEDULER)),
        })
    }

    fn listener(&self) -> Result<Listener> {
        let listener = match &self.ws {
            Some(path) => Listener::websocket(&self.listen, path),
            None => Listener::tcp(&self.listen),
        };
        Ok(match self.tls.as_deref() {
            Some([certificate, key]) => listener.tls(certificate, key),
            _ => listener,
        })
    }
}
