//! What a node sends: calls, channels, broadcasts.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::{call::CallAllBuilder, node_handle::Handle, users::Running};
use crate::{
    channel::{Channel, ChannelNetwork},
    error::{Error, Result, code},
    serialize::{Encode, Json},
    session::{ByNode, CallBuilder, Push},
};

impl Handle {
    /// Calls a service of the cluster on behalf of the node.
    ///
    /// The session its handler gets has id 0 and no client. A node that has the service itself
    /// answers without the network; otherwise the balance policy chooses among the members that
    /// have it, unless [`to`](CallBuilder::to) names one.
    ///
    /// ```
    /// # use nano::{Handle, Result};
    /// async fn rooms(node: &Handle, address: &str) -> Result<Vec<String>> {
    ///     node.call("Rooms.List").to(address).json(&()).await
    /// }
    /// ```
    pub fn call(&self, route: &str) -> CallBuilder<ByNode> {
        CallBuilder::by_node(self.0.sessions.clone(), route)
    }

    /// Calls a service on every node that has it, this one included.
    ///
    /// ```
    /// # use nano::{Handle, Result};
    /// async fn players(node: &Handle) -> Result<u64> {
    ///     let counts = node.call_all("Rooms.Players").json::<u64, _>(&()).await?;
    ///     Ok(counts.into_iter().filter_map(|(_, count)| count.ok()).sum())
    /// }
    /// ```
    pub fn call_all(&self, route: &str) -> CallAllBuilder {
        CallAllBuilder::new(self.0.sessions.clone(), route)
    }

    /// The channel with this name, a group of sessions that spans the cluster.
    ///
    /// ```
    /// # use nano::{Handle, Result};
    /// async fn say(node: &Handle, text: &str) -> Result {
    ///     node.channel("guild.7").publish("onSay", text).await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn channel(&self, name: impl Into<Arc<str>>) -> Channel {
        let parts = self.0.parts.get();
        Channel::new(name.into(), parts.map(|parts| parts.channels.clone()))
    }

    /// Pushes a JSON message to all clients of all gates of the cluster, without a wait for them.
    ///
    /// Keeps its place among what this node sends to a session. Each gate gets one frame on each
    /// stream of its link. Returns the addresses of the members whose clients, if they have any, may
    /// have missed it: nodes of Go nano, which take no broadcasts, and nodes that cannot be reached.
    ///
    /// ```
    /// # use nano::{Handle, Result};
    /// fn announce(node: &Handle, text: &str) -> Result {
    ///     for missed in node.broadcast("onAnnounce", text)? {
    ///         println!("not announced at {missed}");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`code::TOO_LARGE`], the format's error for a message that it cannot write, and
    /// [`code::UNAVAILABLE`] when the node does not run.
    pub fn broadcast<M: Serialize + ?Sized>(
        &self,
        route: &str,
        message: &M,
    ) -> Result<Vec<String>> {
        self.broadcast_raw(route, Json::encode(message)?)
    }

    /// [`broadcast`](Handle::broadcast) of bytes as they are.
    ///
    /// # Errors
    /// As [`broadcast`](Handle::broadcast).
    pub fn broadcast_raw(&self, route: &str, body: impl Into<Bytes>) -> Result<Vec<String>> {
        let stopped = || Error::new(code::UNAVAILABLE, "the node is not running");
        let network = self.channel_network().ok_or_else(stopped)?;
        network.broadcast(&Push::new(route, body.into()))
    }

    /// The channels of a node that runs.
    pub(crate) fn channel_network(&self) -> Option<Arc<dyn ChannelNetwork>> {
        self.0.parts.get()?.channels.upgrade()
    }

    pub(crate) fn user_router(&self) -> Running {
        let users = self.0.parts.get().map(|parts| parts.users.upgrade());
        Running(users.flatten())
    }
}
