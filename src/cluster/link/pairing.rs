//! What a gate remembers of one of its sessions that another node serves too.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use super::{SESSION_ACCOUNT, WINDOW, backlog::Account};
use crate::session::Session;

/// Requests whose answers a member owes. Beyond so many the oldest are forgotten: the gate's
/// timeout has answered them, or will.
const MAX_REQUESTS: usize = 4096;

/// One session and one member.
pub(in crate::cluster) struct Pairing {
    pub(in crate::cluster) session: Session,
    /// Later ones of the same stream have larger numbers, also those of the same session.
    pub(super) number: u64,
    /// How often the member has bound it, as far as this gate has heard.
    pub(super) binds: u32,
    /// Messages sent that the member is not done with.
    under_way: u32,
    /// Which of its requests the member has not answered. Mostly answered in order, so the search
    /// ends at the front.
    requests: VecDeque<u64>,
    /// The session's reader, while the window or the queue is full.
    pub(in crate::cluster) reader: Option<Waker>,
    /// Its messages that wait for the stream.
    pub(super) account: Arc<Account>,
}

impl Pairing {
    pub(in crate::cluster) fn new(session: &Session) -> Self {
        let account = Account::new(SESSION_ACCOUNT);
        Self {
            session: session.with_request(0),
            number: 0,
            binds: 0,
            under_way: 0,
            requests: VecDeque::new(),
            reader: None,
            account,
        }
    }

    pub(super) fn numbered(self, number: u64) -> Self {
        Self { number, ..self }
    }

    pub(in crate::cluster) fn has_room(&self) -> bool {
        self.under_way < WINDOW
    }

    /// A message is sent; a request has an id.
    pub(in crate::cluster) fn sent(&mut self, request: u64) {
        self.under_way += 1;
        if request != 0 {
            if self.requests.len() == MAX_REQUESTS {
                self.requests.pop_front();
            }
            self.requests.push_back(request);
        }
    }

    /// The member is done with some. Who waits for room is to be woken.
    pub(in crate::cluster) fn credit(&mut self, started: u32) -> Option<Waker> {
        self.under_way = self.under_way.saturating_sub(started);
        self.reader.take()
    }

    /// Whether the member owed this answer.
    pub(in crate::cluster) fn answered(&mut self, request: u64) -> bool {
        match self.requests.iter().position(|waiting| *waiting == request) {
            Some(at) => self.requests.remove(at).is_some(),
            None => false,
        }
    }

    /// What was under way is lost. The requests that nobody answers any more.
    pub(in crate::cluster) fn lose(&mut self) -> VecDeque<u64> {
        self.under_way = 0;
        std::mem::take(&mut self.requests)
    }
}
