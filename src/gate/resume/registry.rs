//! The sessions of a gate that can be resumed, by token.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::token::{self, Secret};
use crate::{gate::opening::Opening, net::stream::Transport, resume::Lost};

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
    ended: HashMap<i64, (Secrets, Lost)>,
    /// The keys of `ended`, oldest first.
    ended_order: VecDeque<i64>,
}

struct Entry {
    session: Arc<dyn Resumable>,
    secrets: Secrets,
    arrival: Option<Arrival>,
}

/// The token the client has used or acknowledged last, and those it was sent since, oldest first.
///
/// Until the client acknowledges one, the replies with them may be lost. There may be several,
/// because an attempt that the client has given up may arrive behind the next one.
struct Secrets {
    current: Secret,
    pending: Vec<Secret>,
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
        let entry = Entry {
            session,
            secrets: Secrets::new(current),
            arrival: None,
        };
        let mut table = self.0.lock();
        if table.sessions.len() >= most {
            return None;
        }
        table.sessions.insert(id, entry);
        Some(token::encode(id, &current, node))
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
    pub(in crate::gate) fn find(&self, token: &str, received: Option<u64>) -> Result<i64, Lost> {
        let (id, secret) = token::decode(token).ok_or(Lost::Unknown)?;
        let mut table = self.0.lock();
        let Some(entry) = table.sessions.get_mut(&id) else {
            let ended = table.ended.get(&id);
            let ended = ended.filter(|(secrets, _)| secrets.include(&secret));
            return Err(ended.map_or(Lost::Unknown, |(_, lost)| *lost));
        };
        if !entry.secrets.include(&secret) {
            return Err(Lost::Unknown);
        }
        entry.session.check(received.ok_or(Lost::Invalid)?)?;
        entry.secrets.used(secret);
        Ok(id)
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
        let replaced = entry.arrival.replace(arrival);
        drop(table);
        drop(replaced);
        session.supersede();
    }

    /// Takes the new socket of a session, if there is one.
    pub(in crate::gate) fn take_arrival(&self, id: i64) -> Option<Arrival> {
        self.0.lock().sessions.get_mut(&id)?.arrival.take()
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
