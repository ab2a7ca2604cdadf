//! The servers that are measured, other than Go nano's: ours, and those that show what the machine
//! gives without a framework.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use nano::Result;
use tokio::{net::TcpListener, runtime::Builder};

use crate::process;

mod bare;
mod framing;
mod hop;
mod nano_app;
mod recorder;
mod rooms;
mod send_queue;
pub(crate) mod services;
mod stream;
mod stream_rpc;
pub(crate) mod users_node;

#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Ours: a node of its own, or one of a cluster.
    Nano(nano_app::Flags),
    /// A node of the directory's growth curves, which start and control it.
    #[command(hide = true)]
    Users(users_node::Flags),
    /// A baseline: tokio and the same packets, answered where they are read.
    Bare(Listen),
    /// A baseline: each message is a boxed task of one scheduler, a thread of its own, and its answer
    /// goes through a send queue.
    Hop {
        #[command(flatten)]
        listen: Listen,
        /// The scheduler is a task of the threads that do the network's work.
        #[arg(long)]
        on_workers: bool,
    },
    /// A baseline: clients here, answers from a backend over one gRPC stream of batches.
    StreamGate {
        #[command(flatten)]
        listen: Listen,
        /// Where the backend is.
        #[arg(long)]
        backend: SocketAddr,
    },
    /// The backend of that.
    StreamBackend(Listen),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Listen {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
}

impl Listen {
    /// Listens, and prints the address in one line.
    async fn open(&self) -> Result<TcpListener> {
        let listener = TcpListener::bind(&self.listen).await?;
        println!("listening on {}", listener.local_addr()?);
        Ok(listener)
    }
}

/// Runs a server until it is asked to stop.
pub(crate) fn run(server: Server) -> Result {
    process::raise_file_limit();
    let env = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(env)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    // A baseline is what the machine gives at best, and with two cores and a load on them that is with
    // one thread; ours runs as in an application.
    let mut runtime = match server {
        Server::Nano(_) | Server::Users(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    runtime.enable_all().build()?.block_on(async {
        match server {
            Server::Nano(flags) => nano_app::run(&flags).await,
            Server::Users(flags) => users_node::run(&flags).await,
            Server::Bare(listen) => bare::run(listen.open().await?).await,
            Server::Hop { listen, on_workers } => hop::run(listen.open().await?, on_workers).await,
            Server::StreamGate { listen, backend } => {
                stream::gate(listen.open().await?, backend).await
            }
            Server::StreamBackend(listen) => stream::backend(listen.open().await?).await,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{future::Future, time::Duration};

    use nano::client::Client;
    use tokio::{sync::mpsc, task::JoinSet, time::timeout};

    use super::*;

    const REQUESTS: usize = 200;

    /// Many requests at once, large enough that a socket does not take all answers.
    async fn answers_everything(address: SocketAddr) {
        let client = Client::connect(&format!("tcp://{address}")).await.unwrap();
        let mut requests = JoinSet::new();
        for number in 0..REQUESTS {
            let client = client.clone();
            requests.spawn(async move {
                let body = vec![number as u8; 16 * 1024];
                assert!(
                    client.request_raw("Echo.Echo", body.clone()).await.unwrap() == body,
                    "request {number}"
                );
            });
        }
        requests.join_all().await;
    }

    async fn check<S: Future<Output = Result> + Send + 'static>(
        server: impl FnOnce(TcpListener) -> S,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(server(listener));
        timeout(Duration::from_secs(20), answers_everything(address))
            .await
            .unwrap();
        server.abort();
    }

    #[tokio::test]
    async fn baselines_answer_every_request_with_its_body() {
        check(bare::run).await;
        check(|listener| hop::run(listener, false)).await;
        check(|listener| hop::run(listener, true)).await;
    }

    #[tokio::test]
    async fn what_one_member_says_to_the_bare_baseline_all_hear() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(bare::run(listener));
        let (heard, mut hears) = mpsc::unbounded_channel();
        let mut clients = Vec::new();
        for _ in 0..3 {
            let (client, heard) = (Client::connect(&address).await.unwrap(), heard.clone());
            client.on("onBroadcast", move |body| heard.send(body).unwrap());
            client.request_raw("Grp.Join", "").await.unwrap();
            clients.push(client);
        }
        clients[0].notify_raw("Grp.Send", "hello").await.unwrap();
        for _ in &clients {
            assert_eq!(
                timeout(Duration::from_secs(20), hears.recv())
                    .await
                    .unwrap()
                    .unwrap(),
                "hello"
            );
        }
        server.abort();
    }

    #[tokio::test]
    async fn the_stream_baseline_answers_every_request_with_its_body() {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = backend.local_addr().unwrap();
        let backend = tokio::spawn(stream::backend(backend));
        check(move |listener| stream::gate(listener, address)).await;
        backend.abort();
    }
}
