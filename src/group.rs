//! Groups: sets of sessions that are sent the same messages.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::RwLock;
use tracing::debug;

use crate::{
    error::{Error, Result, code},
    metrics::GroupMetrics,
    serialize::{Encode, Json, Serializer},
    session::{GateMulticast, GroupRef, Push, Session, SessionKey},
};

/// A set of sessions that are sent the same messages: a room, a desk, a channel.
///
/// A session that closes leaves by itself. Members may be clients of other gates: a broadcast is
/// one frame to each gate. `S` is the format of the messages.
///
/// Handles are cheap, and clones are the same group. No method blocks: a broadcast encodes the
/// message once and queues it to each member's connection.
///
/// ```
/// use nano::{Group, mock};
///
/// # fn main() -> nano::Result {
/// let room: Group = Group::new("room 7");
/// let ((ann, to_ann), (ben, to_ben)) = (mock::session(), mock::session());
/// room.add(&ann)?;
/// room.add(&ben)?;
/// room.broadcast("onSay", "hello")?;
/// room.multicast("onTurn", &1, |member| *member == ann)?;
/// assert_eq!((to_ann.pushes().len(), to_ben.pushes().len()), (2, 1));
/// ben.kick("cheater");
/// assert_eq!(room.count(), 1);
/// # Ok(())
/// # }
/// ```
///
/// The members' lock guards the set. Filters, sinks and drops of sessions run without it. A
/// session's close state is locked under it, never the other way round.
pub struct Group<S: Serializer = Json> {
    inner: Arc<Inner>,
    format: std::marker::PhantomData<fn() -> S>,
}

struct Inner {
    name: String,
    members: RwLock<Members>,
}

#[derive(Default)]
struct Members {
    closed: bool,
    /// Not by id: gates of basic members may give one id twice.
    by_key: HashMap<SessionKey, Session>,
    /// Where the group counts while it has members: the node of the first.
    counts: Option<Arc<GroupMetrics>>,
}

impl<S: Serializer> Group<S> {
    /// Makes an empty group. The name is for logs: groups are not registered anywhere.
    #[doc(alias = "NewGroup")]
    pub fn new(name: impl Into<String>) -> Self {
        Self::of(Arc::new(Inner {
            name: name.into(),
            members: RwLock::default(),
        }))
    }

    fn of(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            format: std::marker::PhantomData,
        }
    }

    /// The same group in another format.
    pub fn typed<T: Serializer>(&self) -> Group<T> {
        Group::of(self.inner.clone())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Adds a session, and returns whether it is new: false for one that is a member already.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the group or the session is closed.
    pub fn add<T: Serializer>(&self, session: &Session<T>) -> Result<bool> {
        // Without the lock: the last reference to a table drops its sessions.
        let counts = session.inner().table().map(|table| table.groups());
        let mut members = self.inner.members.write();
        if members.closed {
            return Err(self.inner.closed());
        }
        if members.by_key.contains_key(&session.key()) {
            return Ok(false);
        }
        if !session.inner().close_state.join(self.inner.group_ref()) {
            return Err(Error::new(
                code::CLOSED,
                format!("session {} is closed", session.id()),
            ));
        }
        members.insert(session.typed().with_request(0), counts);
        Ok(true)
    }

    /// Removes a session, and returns whether it was a member.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the group is closed.
    pub fn leave<T: Serializer>(&self, session: &Session<T>) -> Result<bool> {
        let left = {
            let mut members = self.inner.members.write();
            if members.closed {
                return Err(self.inner.closed());
            }
            members.remove(session.key())
        };
        if let Some(left) = &left {
            left.inner().close_state.leave(&self.inner.group_ref());
        }
        Ok(left.is_some())
    }

    /// Removes every session.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the group is closed.
    pub fn leave_all(&self) -> Result {
        let left = {
            let mut members = self.inner.members.write();
            if members.closed {
                return Err(self.inner.closed());
            }
            members.take_all()
        };
        self.inner.remove_from(left);
        Ok(())
    }

    /// Pushes a message to every member.
    ///
    /// A member that cannot take it does not keep it from the others: the policy for slow clients
    /// applies to its connection.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the group is closed, [`code::TOO_LARGE`], and the format's error for a
    /// message it cannot write.
    pub fn broadcast<M: ?Sized>(&self, route: &str, message: &M) -> Result
    where
        S: Encode<M>,
    {
        self.broadcast_raw(route, S::encode(message)?)
    }

    /// [`broadcast`](Group::broadcast) of bytes as they are.
    ///
    /// # Errors
    /// See [`broadcast`](Group::broadcast).
    pub fn broadcast_raw(&self, route: &str, body: impl Into<Bytes>) -> Result {
        self.send(&Push::new(route, body.into()), |_| true)
    }

    /// Pushes a message to the members for which `filter` returns true. It may use the group.
    ///
    /// # Errors
    /// See [`broadcast`](Group::broadcast).
    pub fn multicast<M: ?Sized>(
        &self,
        route: &str,
        message: &M,
        filter: impl Fn(&Session<S>) -> bool,
    ) -> Result
    where
        S: Encode<M>,
    {
        self.send(&Push::new(route, S::encode(message)?), filter)
    }

    fn send(&self, push: &Push<'_>, filter: impl Fn(&Session<S>) -> bool) -> Result {
        push.check()?;
        // A copy of the handles, so that filters and sinks are called without the lock.
        let mut gates = GateBatches::default();
        let members = self.sessions()?;
        for member in &members {
            if !filter(member) {
                continue;
            }
            if let Some(gate) = member.sink().gate_multicast() {
                gates.add(gate, member.id());
            } else {
                self.push_to(member, push);
            }
        }
        let (displaced, dropped) = gates.push(self.name(), push);
        if dropped > 0
            && let Some(counts) = &self.inner.members.read().counts
        {
            counts.dropped.increment(dropped as u64);
        }
        // Those that have moved to another gate meanwhile.
        for id in displaced {
            if let Some(member) = members.iter().find(|member| member.id() == id) {
                self.push_to(member, push);
            }
        }
        Ok(())
    }

    fn push_to(&self, member: &Session<S>, push: &Push<'_>) {
        if let Err(error) = member.sink().push(push) {
            debug!(group = self.name(), session = member.id(), user = member.logged_user(), route = push.route(), %error, "broadcast to a member failed");
        }
    }

    fn sessions(&self) -> Result<Vec<Session<S>>> {
        let members = self.inner.members.read();
        if members.closed {
            return Err(self.inner.closed());
        }
        Ok(members.by_key.values().map(Session::typed).collect())
    }

    /// The member with this uid.
    pub fn member(&self, uid: i64) -> Option<Session<S>> {
        self.find_member(|session| session.uid() == uid)
    }

    /// A member for which `filter` returns true.
    ///
    /// No lock is held while `filter` runs, so it may use the group.
    pub fn find_member(&self, filter: impl Fn(&Session<S>) -> bool) -> Option<Session<S>> {
        self.list().into_iter().find(filter)
    }

    /// The handles of all members, in no order.
    fn list(&self) -> Vec<Session<S>> {
        let members = self.inner.members.read();
        members.by_key.values().map(Session::typed).collect()
    }

    /// The uids of all members, in no order; 0 for each that is not bound.
    pub fn members(&self) -> Vec<i64> {
        self.inner
            .members
            .read()
            .by_key
            .values()
            .map(Session::uid)
            .collect()
    }

    /// Whether a member has this uid.
    pub fn contains(&self, uid: i64) -> bool {
        self.inner
            .members
            .read()
            .by_key
            .values()
            .any(|session| session.uid() == uid)
    }

    /// The number of members.
    pub fn count(&self) -> usize {
        self.inner.members.read().by_key.len()
    }

    /// Empties the group and closes it for good.
    ///
    /// # Errors
    /// [`code::CLOSED`] when it is closed already.
    pub fn close(&self) -> Result {
        let left = {
            let mut members = self.inner.members.write();
            if std::mem::replace(&mut members.closed, true) {
                return Err(self.inner.closed());
            }
            members.take_all()
        };
        self.inner.remove_from(left);
        Ok(())
    }
}

/// The members of a broadcast whose clients are on other gates, by gate.
#[derive(Default)]
struct GateBatches(Vec<(Arc<dyn GateMulticast>, Vec<i64>)>);

impl GateBatches {
    fn add(&mut self, gate: Arc<dyn GateMulticast>, session: i64) {
        match self
            .0
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, &gate))
        {
            Some((_, sessions)) => sessions.push(session),
            None => self.0.push((gate, vec![session])),
        }
    }

    /// Returns the members that are at another gate now, and how many were sent nothing because their
    /// gate took none.
    fn push(self, group: &str, push: &Push<'_>) -> (Vec<i64>, usize) {
        let (mut displaced, mut dropped) = (Vec::new(), 0);
        for (gate, sessions) in self.0 {
            let count = sessions.len();
            if let Err(error) = gate.push(sessions, push, &mut displaced) {
                dropped += count;
                debug!(group, sessions = count, route = push.route(), %error, "broadcast to a gate failed");
            }
        }
        (displaced, dropped)
    }
}

impl Members {
    fn insert(&mut self, session: Session, counts: Option<Arc<GroupMetrics>>) {
        if self.by_key.is_empty() {
            self.counts = counts;
            if let Some(counts) = &self.counts {
                counts.groups.increment(1.0);
            }
        }
        if let Some(counts) = &self.counts {
            counts.members.increment(1.0);
        }
        self.by_key.insert(session.key(), session);
    }

    fn remove(&mut self, member: SessionKey) -> Option<Session> {
        let left = self.by_key.remove(&member);
        if left.is_some() {
            self.uncount(1);
        }
        left
    }

    fn take_all(&mut self) -> HashMap<SessionKey, Session> {
        let left = std::mem::take(&mut self.by_key);
        self.uncount(left.len());
        left
    }

    /// So many members have left.
    fn uncount(&mut self, left: usize) {
        if let Some(counts) = &self.counts {
            counts.members.decrement(left as f64);
            if self.by_key.is_empty() {
                counts.groups.decrement(1.0);
                self.counts = None;
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.members.get_mut().take_all());
    }
}

impl Inner {
    fn closed(&self) -> Error {
        Error::new(code::CLOSED, format!("group {} is closed", self.name))
    }

    fn group_ref(self: &Arc<Self>) -> Weak<dyn GroupRef> {
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }

    fn remove_from(self: &Arc<Self>, left: HashMap<SessionKey, Session>) {
        let group = self.group_ref();
        for session in left.into_values() {
            session.inner().close_state.leave(&group);
        }
    }
}

impl GroupRef for Inner {
    fn forget(&self, member: SessionKey) {
        let member = self.members.write().remove(member);
        drop(member);
    }

    #[cfg(feature = "admin")]
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }
}

impl<S: Serializer> Clone for Group<S> {
    fn clone(&self) -> Self {
        Self::of(self.inner.clone())
    }
}

impl<S: Serializer> Default for Group<S> {
    fn default() -> Self {
        Self::new("")
    }
}

impl<S: Serializer> fmt::Debug for Group<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.inner.name)
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}
