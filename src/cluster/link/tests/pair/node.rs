//! One of the two nodes: its clients, the sessions it serves, and what it checks when something
//! arrives.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use crate::{
    cluster::link::{
        config::STREAMS, served_session::NewSession, session::LinkedSession, state::LinkState,
    },
    session::{SharedValues, UserId},
};

/// A session handle of the simulation.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) id: i64,
    /// 0 on the gate.
    pub(super) key: u64,
    pub(super) request: u64,
    user: Rc<RefCell<Option<UserId>>>,
    /// What the session's service is bound to: on the gate, or as the member asked for; 0 if it did
    /// not.
    pub(super) route: Rc<Cell<u32>>,
    shared: Rc<SharedValues>,
    closed: Rc<Cell<bool>>,
}

impl Handle {
    pub(super) fn new(id: i64, key: u64) -> Self {
        Self {
            id,
            key,
            request: 0,
            user: Rc::default(),
            route: Rc::default(),
            shared: Rc::default(),
            closed: Rc::default(),
        }
    }

    pub(super) fn close(&self) {
        self.closed.set(true);
    }
}

impl LinkedSession for Handle {
    fn id(&self) -> i64 {
        self.id
    }

    fn user(&self) -> Option<UserId> {
        self.user.borrow().clone()
    }

    fn client_address(&self) -> String {
        String::new()
    }

    fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn rebind(&self, user: Option<UserId>) {
        self.user.replace(user);
    }

    fn shared(&self) -> &SharedValues {
        &self.shared
    }

    fn for_request(&self, request: u64) -> Self {
        Self {
            request,
            ..self.clone()
        }
    }
}

/// A client of this node.
pub(super) struct Client {
    pub(super) session: Handle,
    /// Messages sent so far; each carries its number.
    pub(super) sent: u64,
    /// The number of the last push.
    pub(super) pushed: u64,
    /// Requests without an end.
    pub(super) requests: BTreeSet<u64>,
}

pub(super) struct Node {
    pub(super) incarnation: u64,
    pub(super) epoch: u64,
    pub(super) links: [LinkState<Handle>; STREAMS],
    pub(super) last_stream: u64,
    pub(super) clients: BTreeMap<i64, Client>,
    /// Sessions of the other node's clients.
    pub(super) served: BTreeMap<i64, Handle>,
    /// The number of the last message of each session that was delivered here.
    delivered: BTreeMap<i64, u64>,
    /// The number of the last push to each session.
    pushed: BTreeMap<i64, u64>,
    pub(super) stopping: bool,
    /// The number of the next user that is pushed to.
    pub(super) next_user: u64,
    /// Calls of this node that wait for a reply, with their stream index.
    pub(super) calls: BTreeMap<u64, usize>,
    /// Calls of this node that were cancelled, or failed with their stream.
    pub(super) ended_calls: BTreeSet<u64>,
    /// Calls of the other node whose handlers run here, with their stream index.
    pub(super) served_calls: BTreeMap<u64, usize>,
}

impl Node {
    pub(super) fn new(incarnation: u64, times: Times) -> Self {
        Self {
            incarnation,
            epoch: 1,
            links: new_links(times),
            last_stream: 0,
            clients: BTreeMap::new(),
            served: BTreeMap::new(),
            delivered: BTreeMap::new(),
            pushed: BTreeMap::new(),
            stopping: false,
            next_user: 1,
            calls: BTreeMap::new(),
            ended_calls: BTreeSet::new(),
            served_calls: BTreeMap::new(),
        }
    }

    pub(super) fn open(served: &mut BTreeMap<i64, Handle>, new: &NewSession<'_>) -> Handle {
        let handle = Handle::new(new.id, new.key);
        let before = served.insert(new.id, handle.clone());
        assert!(before.is_none(), "session {} is served twice", new.id);
        handle
    }

    /// Checks that a message comes behind those before it, to a session that is served.
    pub(super) fn deliver(&mut self, session: &Handle, number: u64) {
        let served = self.served.get(&session.id);
        assert!(
            served.is_some_and(|served| served.key == session.key),
            "a message of session {} that is not served",
            session.id
        );
        let last = self.delivered.insert(session.id, number).unwrap_or(0);
        assert!(
            last < number,
            "session {}: message {number} behind {last}",
            session.id
        );
    }

    /// Checks that a served session ends once.
    pub(super) fn end(&mut self, session: &Handle) {
        let ended = self.served.remove(&session.id);
        assert!(
            ended.is_some_and(|ended| ended.key == session.key),
            "session {} ends twice",
            session.id
        );
    }

    /// Checks that a request ends once.
    pub(super) fn end_request(&mut self, session: i64, request: u64) {
        let client = self.clients.get_mut(&session);
        assert!(
            client.is_some_and(|client| client.requests.remove(&request)),
            "request {request} of session {session} ends twice"
        );
    }

    pub(super) fn next_push(&mut self, session: i64) -> u64 {
        let pushed = self.pushed.entry(session).or_default();
        *pushed += 1;
        *pushed
    }
}

/// The partition grace and the idle timeout.
pub(super) type Times = (Duration, Option<Duration>);

pub(super) fn new_links((grace, idle): Times) -> [LinkState<Handle>; STREAMS] {
    std::array::from_fn(|index| LinkState::new(index, grace, idle))
}
