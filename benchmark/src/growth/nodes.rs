//! Nodes of a cluster with a directory, each in a process of its own.

use futures_util::future::try_join_all;
use nano::{Error, Result, client::Client, code};
use serde::Serialize;

use super::server::{Process, start_one};
use crate::{
    process,
    servers::users_node::{LogIn, Nodes},
};

/// One node, and a connection that controls it.
pub(super) struct Node {
    process: Process,
    client: Client,
    /// Where clients connect.
    pub(super) address: String,
    /// Where other nodes connect.
    pub(super) member: String,
}

/// What a node of the directory has.
#[derive(Default)]
pub(super) struct Has {
    /// Clients in its process.
    pub(super) clients: usize,
    /// The service `Echo`.
    pub(super) echo: bool,
    /// The port of other nodes; any that is free unless given.
    pub(super) port: u16,
}

impl Node {
    /// Starts the master.
    pub(super) async fn master() -> Result<Self> {
        Self::start(&[]).await
    }

    /// Starts a member.
    pub(super) async fn join(master: &Self, has: Has) -> Result<Self> {
        let (clients, serve) = (has.clients.to_string(), format!("127.0.0.1:{}", has.port));
        let mut flags = vec!["--master", &master.member];
        flags.extend(["--clients", &clients, "--serve", &serve]);
        if has.echo {
            flags.push("--echo");
        }
        Self::start(&flags).await
    }

    async fn start(flags: &[&str]) -> Result<Self> {
        let (process, addresses) = start_one("users", flags)?;
        let (address, member) = addresses
            .split_once(' ')
            .ok_or_else(|| Error::new(code::UNAVAILABLE, "the node says no address"))?;
        let client = Client::builder().request_timeout(None);
        Ok(Self {
            client: client.connect(&format!("tcp://{address}")).await?,
            address: address.to_owned(),
            member: member.to_owned(),
            process,
        })
    }

    /// Has it do something.
    pub(super) async fn ask<Answer>(&self, route: &str, request: &impl Serialize) -> Result<Answer>
    where
        Answer: serde::de::DeserializeOwned + 'static,
    {
        self.client.request(route, request).await
    }

    /// Logs in clients.
    pub(super) async fn log_in(&self, wanted: &LogIn) -> Result {
        self.ask("Drive.LogIn", wanted).await.map(|_: usize| ())
    }

    /// Returns when its view had this many nodes, in microseconds since 1970.
    pub(super) async fn view(&self, nodes: usize) -> Result<u64> {
        self.ask("Drive.View", &Nodes(nodes)).await
    }

    /// The memory of its process, in bytes.
    pub(super) fn memory(&self) -> u64 {
        process::memory(&[self.process.id()])
    }

    /// Has it leave the cluster.
    pub(super) fn stop(self) -> Result {
        self.process.stop()
    }
}

/// Waits until all nodes are in a view of this many.
pub(super) async fn settle(nodes: &[&Node], count: usize) -> Result {
    try_join_all(nodes.iter().map(|node| node.view(count))).await?;
    Ok(())
}
