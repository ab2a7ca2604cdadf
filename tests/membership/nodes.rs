//! Nodes that can be killed.

use std::time::Duration;

use nano::{App, Cluster, Component, Handle, Handlers, Node, Options, Result, Session, Timeouts};
use tokio::runtime::{Builder, Runtime};

pub(crate) use crate::support::free_address;
use crate::support::{MemberApp, eventually, within};

/// The heartbeat interval of all clusters here. A silent member is evicted after 1.2 s.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(300);

pub(crate) struct Service;

impl Component for Service {
    fn handlers(handlers: Handlers<Self>) -> Handlers<Self> {
        handlers.on("Call", Self::call)
    }
}

impl Service {
    fn call(&self, _: &Session, (): ()) -> Result<()> {
        Ok(())
    }
}

/// A node on a runtime of its own, so that it can be killed with all its sockets and tasks.
pub(crate) struct Living {
    pub(crate) node: Node,
    runtime: Own,
}

/// A runtime that ends at once when dropped, wherever that is.
struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn node(cluster: Cluster) -> MemberApp {
    let cluster = cluster
        .listen("127.0.0.1:0")
        .heartbeat(HEARTBEAT)
        .retry_interval(HEARTBEAT);
    let app = App::new().timeouts(Timeouts::new().shutdown(Duration::from_secs(3)));
    MemberApp::new(app, cluster)
}

pub(crate) fn master() -> MemberApp {
    node(Cluster::master())
}

pub(crate) fn member(master: &str) -> MemberApp {
    join([master])
}

/// A member that tries these masters in turn.
pub(crate) fn join<const N: usize>(masters: [&str; N]) -> MemberApp {
    node(Cluster::join(masters))
}

pub(crate) fn serving(app: MemberApp, services: &[&str]) -> MemberApp {
    services.iter().fold(app, |app, &name| {
        app.component_with(Service, Options::new().name(name))
    })
}

impl Living {
    pub(crate) async fn start(app: impl Into<App>) -> Self {
        within("the start of a node", Self::try_start(app))
            .await
            .unwrap()
    }

    pub(crate) async fn try_start(app: impl Into<App>) -> Result<Self> {
        let runtime = Own(Some(
            Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        ));
        let node = runtime
            .0
            .as_ref()
            .unwrap()
            .spawn(app.into().start())
            .await
            .unwrap()?;
        Ok(Self { node, runtime })
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.node.handle()
    }

    pub(crate) fn address(&self) -> &str {
        self.handle().member().unwrap().address()
    }

    /// The addresses in its table, in order.
    pub(crate) fn table(&self) -> Vec<String> {
        self.handle()
            .members()
            .iter()
            .map(|member| member.address().to_owned())
            .collect()
    }

    pub(crate) async fn sees(&self, others: &[&str]) {
        eventually(&format!("{} sees {others:?}", self.address()), || {
            self.table() == others
        })
        .await;
    }

    /// Waits until another node is in its table.
    pub(crate) async fn sees_among(&self, other: &str) {
        eventually(&format!("{} sees {other}", self.address()), || {
            self.table().iter().any(|it| it == other)
        })
        .await;
    }

    /// Kills it: nothing is sent to any node. Its address is free afterwards.
    pub(crate) async fn kill(mut self) {
        drop(std::mem::replace(&mut self.runtime, Own(None)));
        eventually("its address is free", || {
            std::net::TcpListener::bind(self.address()).is_ok()
        })
        .await;
    }

    pub(crate) async fn stop(&self) {
        within("the end of a node", self.node.shutdown()).await;
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.handle().shutdown();
    }
}
