//! The sessions of a gate that can be resumed, by token.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use super::token::{self, Secret};
use crate::{
    gate::{
        obstacle::{Obstacle, Staying},
        opening::Opening,
    },
    net::stream::Transport,
    resume::Lost,
};

/// How many sessions that have ended are remembered, with the reason.
const ENDED: usize = 1024;

/// The most tokens of one session that its client may have and has not used or acknowledged.
const MAX_PENDING: usize = 8;

/// A session that can be resumed, as its gate reaches it.
pub(in crate::gate) trait Resumable: Send + Sync {
    /// Checks that the client can go on after it has received so many packets.
    ///
    /// # Errors
    /// It cannot; nothing changes.
    fn check(&self, received: u64) -> Result<(), Lost>;

    /// Ends the connection of the session, if it has one, and wakes its task.
    fn supersede(&self);
}

/// A socket on which the client of another connection's session has returned.
pub(in crate::gate) struct Arrival {
    pub(in crate::gate) transport: Box<dyn Transport>,
    /// How it was opened, with the bytes behind the handshake.
    pub(in crate::gate) opening: Opening,
    pub(in crate::gate) remote: Option<SocketAddr>,
    /// The data packets the client has received.
    pub(in crate::gate) received: u64,
    /// Dropped when the socket is closed: the task that accepted it waits for that.
    pub(in crate::gate) open: oneshot::Sender<()>,
}

/// Every session of a gate that can be resumed.
///
/// The lock guards all of it. Inside it only [`Resumable`]s are called, which take the lock of
/// their connection.
#[derive(Default)]
pub(in crate::gate) struct Registry(Mutex<Table>);

#[derive(Default)]
struct Table {
    sessions: HashMap<i64, Entry>,
    /// The sessions that other gates have now, with the addresses of those. As many as this gate had
    /// when it began to drain.
    moved: HashMap<i64, (Secrets, Arc<str>)>,
    ended: HashMap<i64, (Secrets, Lost)>,
    /// The keys of `ended`, oldest first.
    ended_order: VecDeque<i64>,
}

struct Entry {
    session: Arc<dyn Resumable>,
    secrets: Secrets,
    /// For a moment only: in a box, every entry of the table is half as large.
    arrival: Option<Box<Arrival>>,
    /// Held while the session moves to another gate.
    migrating: Option<OwnedSemaphorePermit>,
    /// When it may be tried again to move the session, and how often it has failed.
    migrate_at: Option<Instant>,
    failures: u32,
    /// What has kept it here so far, while the gate drains.
    obstacle: Obstacle,
}

/// What is next for a session without a connection.
pub(in crate::gate) enum Next {
    /// It waits for its client.
    Waits,
    Returned(Arrival),
    /// It is to move to another gate.
    Migrates,
}

/// Why a session is not to be found here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gate) enum NotHere {
    Lost(Lost),
    /// It is about to move. The client may try again.
    Moving,
    /// The gate at this address has it.
    Moved(Arc<str>),
}

impl From<Lost> for NotHere {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// The token the client has used or acknowledged last, and those it was sent since, oldest first.
///
/// Until the client acknowledges one, the replies with them may be lost. There may be several,
/// because an attempt that the client has given up may arrive behind the next one.
#[derive(Clone)]
pub(in crate::gate) struct Secrets {
    pub(in crate::gate) current: Secret,
    pub(in crate::gate) pending: Vec<Secret>,
}

impl Secrets {
    fn new(current: Secret) -> Self {
        Self {
            current,
            pending: Vec::new(),
        }
    }

    fn include(&self, secret: &Secret) -> bool {
        let pending = self.pending.iter();
        pending.fold(self.current.is(secret), |found, it| found | it.is(secret))
    }

    /// Notes that the client uses a token, which is included. It has this one: those that were sent
    /// before are void.
    fn used(&mut self, secret: Secret) {
        if !self.current.is(&secret) {
            *self = Self::new(secret);
        }
    }

    fn sent(&mut self, secret: Secret) {
        if self.pending.len() == MAX_PENDING {
            self.pending.remove(0);
        }
        self.pending.push(secret);
    }
}

impl Registry {
    /// Adds a session, and returns its first token, which names this `node`; `None` if there are
    /// `most` already, or the operating system has no random numbers.
    pub(in crate::gate) fn add(
        &self,
        id: i64,
        session: Arc<dyn Resumable>,
        (most, node): (usize, u64),
    ) -> Option<String> {
        let current = Secret::random()?;
        let added = self.adopt(id, session, Secrets::new(current), most);
        added.then(|| token::encode(id, &current, node))
    }

    /// Adds a session that comes from another gate, unless there are `most` already.
    pub(in crate::gate) fn adopt(
        &self,
        id: i64,
        session: Arc<dyn Resumable>,
        secrets: Secrets,
        most: usize,
    ) -> bool {
        let entry = Entry {
            session,
            secrets,
            arrival: None,
            migrating: None,
            migrate_at: None,
            failures: 0,
            obstacle: Obstacle::Waiting,
        };
        let mut table = self.0.lock();
        let has_room = table.sessions.len() < most;
        if has_room {
            // It may have been here before.
            table.moved.remove(&id);
            table.sessions.insert(id, entry);
        }
        has_room
    }

    /// The sessions that may be tried to move now.
    pub(in crate::gate) fn to_migrate(&self, now: Instant) -> Vec<i64> {
        let table = self.0.lock();
        let sessions = table.sessions.iter().filter(|(_, entry)| {
            entry.migrating.is_none() && entry.migrate_at.is_none_or(|at| at <= now)
        });
        sessions.map(|(id, _)| *id).collect()
    }

    /// Ends the connection of a session, if it has one, so that its task moves it. Until then no client
    /// may return to it.
    pub(in crate::gate) fn migrate(&self, id: i64, permit: OwnedSemaphorePermit) {
        let session = {
            let mut table = self.0.lock();
            let Some(entry) = table.sessions.get_mut(&id) else {
                return;
            };
            entry.migrating = Some(permit);
            entry.obstacle = Obstacle::Moving;
            entry.session.clone()
        };
        session.supersede();
    }

    /// Notes what keeps a session here.
    pub(in crate::gate) fn note(&self, id: i64, obstacle: Obstacle) {
        if let Some(entry) = self.0.lock().sessions.get_mut(&id) {
            entry.obstacle = obstacle;
        }
    }

    /// Counts the sessions by what keeps them here, and returns how many there are.
    pub(in crate::gate) fn count_staying(&self, staying: &mut Staying) -> usize {
        let table = self.0.lock();
        for entry in table.sessions.values() {
            staying.add(entry.obstacle, 1);
        }
        table.sessions.len()
    }

    /// Notes that a session does not move. `again` returns when it may be tried again, after so many
    /// failures before; called under the lock.
    pub(in crate::gate) fn stay(&self, id: i64, again: impl FnOnce(u32) -> Instant) {
        if let Some(entry) = self.0.lock().sessions.get_mut(&id) {
            (entry.migrating, entry.migrate_at) = (None, Some(again(entry.failures)));
            entry.failures += 1;
        }
    }

    /// What the tokens of a session hold.
    pub(in crate::gate) fn secrets(&self, id: i64) -> Option<Secrets> {
        let table = self.0.lock();
        table.sessions.get(&id).map(|entry| entry.secrets.clone())
    }

    /// Removes a session that the gate at an address has now.
    pub(in crate::gate) fn moved(&self, id: i64, to: Arc<str>) {
        let mut table = self.0.lock();
        if let Some(entry) = table.sessions.remove(&id) {
            table.moved.insert(id, (entry.secrets, to));
            drop(table);
            // Without the lock: it may own a socket.
            drop(entry.arrival);
        }
    }

    /// The address of the gate that has a session which was here.
    pub(in crate::gate) fn moved_to(&self, id: i64) -> Option<Arc<str>> {
        let table = self.0.lock();
        table.moved.get(&id).map(|(_, to)| to.clone())
    }

    /// Whether no client may return.
    pub(in crate::gate) fn is_empty(&self) -> bool {
        self.0.lock().sessions.is_empty()
    }

    /// Returns the next token of a session. The one before stays valid until
    /// [`confirm`](Registry::confirm).
    pub(in crate::gate) fn renew(&self, id: i64, node: u64) -> Option<String> {
        let secret = Secret::random();
        let mut table = self.0.lock();
        let secrets = &mut table.sessions.get_mut(&id)?.secrets;
        // Without random numbers the old token serves again: its session is not lost for that.
        let secret = secret.unwrap_or(secrets.current);
        secrets.sent(secret);
        Some(token::encode(id, &secret, node))
    }

    /// Notes that the client has its newest token, so that older ones are void.
    pub(in crate::gate) fn confirm(&self, id: i64) {
        if let Some(entry) = self.0.lock().sessions.get_mut(&id) {
            let secrets = &mut entry.secrets;
            secrets.current = secrets.pending.pop().unwrap_or(secrets.current);
            secrets.pending = Vec::new();
        }
    }

    /// Finds the session of a token, for a client that has received so many packets.
    ///
    /// # Errors
    /// Why it cannot be resumed; nothing changes.
    pub(in crate::gate) fn find(&self, token: &str, received: Option<u64>) -> Result<i64, NotHere> {
        let (id, secret) = token::decode(token).ok_or(Lost::Unknown)?;
        let mut table = self.0.lock();
        if let Some((secrets, to)) = table.moved.get(&id)
            && secrets.include(&secret)
        {
            return Err(NotHere::Moved(to.clone()));
        }
        let Some(entry) = table.sessions.get_mut(&id) else {
            let ended = table.ended.get(&id);
            let ended = ended.filter(|(secrets, _)| secrets.include(&secret));
            return Err(ended.map_or(Lost::Unknown, |(_, lost)| *lost).into());
        };
        if !entry.secrets.include(&secret) {
            return Err(Lost::Unknown.into());
        }
        if entry.migrating.is_some() {
            return Err(NotHere::Moving);
        }
        entry.session.check(received.ok_or(Lost::Invalid)?)?;
        entry.secrets.used(secret);
        Ok(id)
    }

    /// Whether the session of a token is here.
    pub(in crate::gate) fn has(&self, token: &str) -> bool {
        let Some((id, secret)) = token::decode(token) else {
            return false;
        };
        let table = self.0.lock();
        let entry = table.sessions.get(&id);
        entry.is_some_and(|entry| entry.secrets.include(&secret))
    }

    /// Gives a session its new socket, in place of an earlier one. Dropped if the session has ended.
    pub(in crate::gate) fn deliver(&self, id: i64, arrival: Arrival) {
        let mut table = self.0.lock();
        let Some(entry) = table.sessions.get_mut(&id) else {
            // Without the lock: it owns a socket.
            drop(table);
            return drop(arrival);
        };
        let session = entry.session.clone();
        let replaced = entry.arrival.replace(Box::new(arrival));
        drop(table);
        drop(replaced);
        session.supersede();
    }

    /// What is next for a session without a connection. While it is to move, a new socket is dropped:
    /// its client has no answer yet, and tries again.
    pub(in crate::gate) fn next(&self, id: i64) -> Next {
        let mut table = self.0.lock();
        let Some(entry) = table.sessions.get_mut(&id) else {
            return Next::Waits;
        };
        let (arrival, migrates) = (entry.arrival.take(), entry.migrating.is_some());
        drop(table);
        match arrival {
            // Without the lock: it owns a socket.
            _ if migrates => Next::Migrates,
            Some(arrival) => Next::Returned(*arrival),
            None => Next::Waits,
        }
    }

    /// Removes a session that has ended. Clients that return with its token learn why.
    pub(in crate::gate) fn remove(&self, id: i64, lost: Lost) {
        let mut table = self.0.lock();
        let Some(entry) = table.sessions.remove(&id) else {
            return;
        };
        if table.ended_order.len() == ENDED
            && let Some(oldest) = table.ended_order.pop_front()
        {
            table.ended.remove(&oldest);
        }
        table.ended_order.push_back(id);
        table.ended.insert(id, (entry.secrets, lost));
        drop(table);
        // Without the lock: it may own a socket.
        drop(entry.arrival);
    }
}
