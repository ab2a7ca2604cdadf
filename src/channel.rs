//! Channels: groups of sessions that span the cluster, as the application uses them.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result, code},
    serialize::{Encode, Json, Serializer},
    session::{Push, Session, UserId},
};

/// The longest name, in bytes.
const MAX_NAME: usize = 255;

/// The most publications and the longest time that a channel keeps.
pub(crate) const MAX_KEPT: usize = 1_000;
pub(crate) const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// A group of sessions that spans the cluster: a guild, a lobby, the chat of a region.
///
/// Made by [`Handle::channel`](crate::Handle::channel) on any node; channels of one name are the same
/// channel. `S` is the format of the messages. Standalone nodes have channels too.
///
/// One node, the channel's owner, orders the publications, so all members see one order. A
/// publication is one frame to the owner, and one from there to each gate that has members. Sessions
/// leave when they close.
///
/// Publications are delivered at most once: none comes twice or out of order, whatever fails. When a
/// link between two nodes breaks or a node dies, members may miss some of them. Members of a channel
/// with [history](Channel::with_history) learn what they have missed when they
/// [return](Channel::rejoin).
///
/// ```
/// # use nano::{Handle, Result, Session};
/// async fn enter_guild(node: &Handle, session: &Session, guild: u32) -> Result {
///     let channel = node.channel(format!("guild.{guild}"));
///     channel.join(session).await?;
///     channel.publish("onJoined", &session.uid()).await?;
///     Ok(())
/// }
/// ```
///
/// All methods wait for other nodes, for some seconds at most, and must be polled in a runtime of
/// tokio. A future that is dropped early may have done its work nevertheless.
pub struct Channel<S: Serializer = Json> {
    name: Arc<str>,
    /// `None` before the node has started. Gone when it has stopped.
    network: Option<Weak<dyn ChannelNetwork>>,
    keep: Option<(usize, Duration)>,
    format: PhantomData<fn() -> S>,
}

/// A place in the order of a channel. Later ones are larger.
///
/// Both numbers stay below 2^53, so a client may keep them, and show them when it returns.
///
/// ```
/// use nano::{Channel, Position, Result, Session};
///
/// async fn come_back(guild: &Channel, session: &Session, last_seen: Position) -> Result<bool> {
///     Ok(guild.rejoin(session, last_seen).await?.recovered)
/// }
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Changes when the channel gets another owner that has no history of it, or was not used for a
    /// while.
    pub epoch: u64,
    /// The number of the publication in its epoch, from 1 on.
    pub offset: u64,
}

/// The largest epoch and the largest offset of a position that another node names. No owner gives
/// these, and there is room for what follows them.
pub(crate) const MAX_POSITION: u64 = 1 << 62;

impl Position {
    /// A position that another node names.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for one above [`MAX_POSITION`].
    pub(crate) fn named(epoch: u64, offset: u64) -> Result<Self> {
        if epoch.max(offset) > MAX_POSITION {
            return Err(Error::bad_request("a position that no owner gives"));
        }
        Ok(Self { epoch, offset })
    }
}

/// What a session got that returned to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejoined {
    /// The last publication before the session became a member again. What follows is pushed to it.
    pub position: Position,
    /// Whether the session was sent everything that it had missed up to there; otherwise it was sent
    /// nothing of it.
    pub recovered: bool,
}

/// How many channels there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelLimits {
    /// Of one owner.
    pub(crate) most: usize,
    /// Of one session.
    pub(crate) per_session: usize,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            most: 100_000,
            per_session: 1_000,
        }
    }
}

/// A result that other nodes are waited for.
pub(crate) type Pending<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Channels with members on this node, for the admin server.
#[cfg(feature = "admin")]
#[derive(Debug)]
pub(crate) struct ChannelPage {
    pub(crate) channels: Vec<ChannelReport>,
    /// The number of all of them.
    pub(crate) total: usize,
}

#[cfg(feature = "admin")]
#[derive(Debug)]
pub(crate) struct ChannelReport {
    pub(crate) channel: Arc<str>,
    /// Members whose gate is this node.
    pub(crate) members: usize,
    /// The address of the node that orders the publications.
    pub(crate) owner: Option<Arc<str>>,
    /// The number of the last publication that this node has seen.
    pub(crate) offset: u64,
}

/// The nodes of the cluster, as channels need them.
pub(crate) trait ChannelNetwork: Send + Sync {
    fn join(&self, name: Arc<str>, session: Session, since: Option<Position>) -> Pending<Rejoined>;

    fn leave(&self, name: Arc<str>, session: Session) -> Pending<bool>;

    /// Lets a session of this gate leave its channels for the gate at an address. It is sent no
    /// publication from then on. Returns up to where it has everything.
    fn leave_for(&self, session: Session, to: String) -> Pending<Vec<(Arc<str>, Position)>>;

    /// A session that has departed stays: it is sent what was published since.
    fn stay(&self, session: &Session);

    /// Makes a session that comes from another gate a member of the channels it had there.
    fn arrive(&self, session: Session, channels: Vec<(Arc<str>, Position)>) -> Pending<()>;

    /// Publishes a message. The channel keeps so many publications, each for so long.
    fn publish(
        &self,
        name: Arc<str>,
        route: ByteString,
        body: Bytes,
        keep: Option<(usize, Duration)>,
    ) -> Pending<Position>;

    /// The number of members, and the users among them.
    fn members(&self, name: Arc<str>) -> Pending<(usize, Vec<UserId>)>;

    /// Changes how many channels there may be. None that exist end.
    #[cfg(feature = "config")]
    fn set_limits(&self, limits: ChannelLimits);

    /// The channels with members on this node whose names come after `after`.
    #[cfg(feature = "admin")]
    fn list(&self, after: String, limit: usize) -> Pending<ChannelPage>;

    /// Counts a name that no channel can have.
    fn input_refused(&self);

    /// Pushes to all clients of all gates. Returns the members whose clients may have missed it.
    ///
    /// # Errors
    /// [`code::TOO_LARGE`].
    fn broadcast(&self, push: &Push<'_>) -> Result<Vec<String>>;
}

impl<S: Serializer> Channel<S> {
    pub(crate) fn new(name: Arc<str>, network: Option<Weak<dyn ChannelNetwork>>) -> Self {
        Self {
            name,
            network,
            keep: None,
            format: PhantomData,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same channel in another format.
    pub fn typed<T: Serializer>(&self) -> Channel<T> {
        Channel {
            name: self.name.clone(),
            network: self.network.clone(),
            keep: self.keep,
            format: PhantomData,
        }
    }

    /// The same channel with a history: what is published by this handle is kept for members that
    /// [return](Channel::rejoin).
    ///
    /// The owner keeps the last `count` publications, 1,000 and 1 MiB at most, each for `ttl`, a day
    /// at most; the histories of all channels of one owner have 64 MiB. A publication by a handle
    /// without history ends what is kept.
    ///
    /// When the channel gets another owner because a node joins or stops in order, the history goes
    /// there, within 8 MiB for each pair of nodes, and [positions](Position) go on. After a crash, or
    /// when several nodes join or leave at once, the channel begins a new epoch with an empty history,
    /// and members that return learn that they cannot have what they missed.
    #[must_use]
    pub fn with_history(mut self, count: usize, ttl: Duration) -> Self {
        self.keep = Some((count.min(MAX_KEPT), ttl.min(MAX_TTL)));
        self
    }

    /// Makes a session a member. It gets all publications behind the position that is returned, and
    /// may be a client of any gate. One that is a member already stays one.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for a name that is empty or over 255 bytes, [`code::CLOSED`] when the
    /// session has closed, [`code::TIMEOUT`] when the owner does not answer, [`code::UNAVAILABLE`]
    /// when a node cannot be reached or this one does not run, [`code::TOO_MANY`] when the session is
    /// in as many channels as it [may be](crate::Limits::max_channels_per_session), or the owner
    /// takes no more.
    pub async fn join<T: Serializer>(&self, session: &Session<T>) -> Result<Position> {
        let network = self.network()?;
        let joined = network.join(self.name.clone(), session.typed(), None);
        joined.await.map(|joined| joined.position)
    }

    /// Makes a session a member again, which left off at a position: what it has missed since is
    /// pushed to it first, if the channel's history has all of it.
    ///
    /// # Errors
    /// As [`join`](Channel::join), and [`code::CONFLICT`] for a session that is a member.
    pub async fn rejoin<T: Serializer>(
        &self,
        session: &Session<T>,
        since: Position,
    ) -> Result<Rejoined> {
        let network = self.network()?;
        let joined = network.join(self.name.clone(), session.typed(), Some(since));
        joined.await
    }

    /// Removes a session, and returns whether it was a member.
    ///
    /// # Errors
    /// As [`join`](Channel::join).
    pub async fn leave<T: Serializer>(&self, session: &Session<T>) -> Result<bool> {
        self.network()?
            .leave(self.name.clone(), session.typed())
            .await
    }

    /// Pushes a message to all members, and returns its place in their order.
    ///
    /// A publication that is begun when another has returned comes behind it, also of another publisher. The
    /// publisher need not be a member.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for a wrong name, [`code::TOO_LARGE`], the format's error for a message
    /// it cannot write, and [`code::TOO_MANY`] when the owner takes no more: nothing is published
    /// then. [`code::UNAVAILABLE`] and [`code::TIMEOUT`] when the owner cannot be reached or goes
    /// away: it may have been published or not.
    pub async fn publish<M: ?Sized>(&self, route: &str, message: &M) -> Result<Position>
    where
        S: Encode<M>,
    {
        let body = S::encode(message)?;
        self.publish_raw(route, body).await
    }

    /// [`publish`](Channel::publish) of bytes as they are.
    ///
    /// # Errors
    /// As [`publish`](Channel::publish).
    pub async fn publish_raw(&self, route: &str, body: impl Into<Bytes>) -> Result<Position> {
        let body = body.into();
        Push::new(route, body.clone()).check()?;
        let published = self
            .network()?
            .publish(self.name.clone(), route.into(), body, self.keep);
        published.await
    }

    /// The users that are members on any gate, each once: numbers in their order, then texts. Members that are bound to no user
    /// are left out.
    ///
    /// # Errors
    /// As [`join`](Channel::join).
    pub async fn members(&self) -> Result<Vec<UserId>> {
        let (_, mut users) = self.network()?.members(self.name.clone()).await?;
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }

    /// The number of sessions that are members on any gate.
    ///
    /// # Errors
    /// As [`join`](Channel::join).
    pub async fn count(&self) -> Result<usize> {
        let (count, _) = self.network()?.members(self.name.clone()).await?;
        Ok(count)
    }

    fn network(&self) -> Result<Arc<dyn ChannelNetwork>> {
        let network = self.network.as_ref().and_then(Weak::upgrade);
        let refused = |_: &Error| network.iter().for_each(|network| network.input_refused());
        check_name(&self.name).inspect_err(refused)?;
        network.ok_or_else(|| Error::new(code::UNAVAILABLE, "the node is not running"))
    }
}

/// Checks the name of a channel.
///
/// # Errors
/// [`code::BAD_REQUEST`].
pub(crate) fn check_name(name: &str) -> Result {
    if (1..=MAX_NAME).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::new(
        code::BAD_REQUEST,
        format!(
            "a channel's name has 1 to {MAX_NAME} bytes, not {}",
            name.len()
        ),
    ))
}

impl<S: Serializer> Clone for Channel<S> {
    fn clone(&self) -> Self {
        self.typed()
    }
}

impl<S: Serializer> fmt::Debug for Channel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .field("history", &self.keep)
            .finish_non_exhaustive()
    }
}
