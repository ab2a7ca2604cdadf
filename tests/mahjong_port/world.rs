//! What all components share: plain maps, behind one lock that is never held while anything is
//! sent.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use nano::{Error, Group, Handle, Result, Session, code};
use parking_lot::Mutex;

use crate::desk::Desk;

/// The reason of sessions that gave way to a newer login.
pub(crate) const REPLACED: &str = "logged in elsewhere";

pub(crate) struct World {
    pub(crate) everyone: Group,
    node: OnceLock<Handle>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    players: HashMap<i64, Arc<Player>>,
    desks: HashMap<u32, Arc<Desk>>,
    last_desk: u32,
    closed: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            everyone: Group::new("everyone"),
            node: OnceLock::new(),
            state: Mutex::default(),
        })
    }

    pub(crate) fn open(&self, node: &Handle) {
        self.node.get_or_init(|| node.clone());
    }

    pub(crate) fn node(&self) -> &Handle {
        self.node.get().unwrap()
    }

    /// The player of this uid, new or from before.
    pub(crate) fn player(&self, uid: i64, name: String, session: &Session) -> Arc<Player> {
        let mut state = self.state.lock();
        state
            .players
            .entry(uid)
            .or_insert_with(|| Arc::new(Player::new(uid, name, session.clone())))
            .clone()
    }

    pub(crate) fn recharge(&self, uid: i64, coins: i64) -> Option<(Arc<Player>, i64)> {
        let player = self.state.lock().players.get(&uid)?.clone();
        let mut balance = player.coins.lock();
        *balance += coins;
        let balance = *balance;
        Some((player.clone(), balance))
    }

    pub(crate) fn create_desk(self: &Arc<Self>) -> Arc<Desk> {
        let mut state = self.state.lock();
        state.last_desk += 1;
        let desk = Desk::open(state.last_desk, self.clone());
        state.desks.insert(desk.number, desk.clone());
        desk
    }

    pub(crate) fn desk(&self, number: u32) -> Result<Arc<Desk>> {
        let desk = self.state.lock().desks.get(&number).cloned();
        desk.ok_or_else(|| Error::new(code::NOT_FOUND, format!("no desk {number}")))
    }

    pub(crate) fn remove_desk(&self, number: u32) {
        assert!(
            self.node().scheduler().is_current(),
            "the maps belong to the logic thread"
        );
        let removed = self.state.lock().desks.remove(&number);
        drop(removed);
    }

    pub(crate) fn desks(&self) -> usize {
        self.state.lock().desks.len()
    }

    pub(crate) fn note_closed(&self, note: String) {
        self.state.lock().closed.push(note);
    }

    pub(crate) fn closed(&self) -> Vec<String> {
        self.state.lock().closed.clone()
    }
}

pub(crate) struct Player {
    pub(crate) uid: i64,
    pub(crate) name: String,
    pub(crate) coins: Mutex<i64>,
    session: Mutex<Session>,
    desk: Mutex<Option<Arc<Desk>>>,
}

impl Player {
    fn new(uid: i64, name: String, session: Session) -> Self {
        Self {
            uid,
            name,
            coins: Mutex::new(0),
            session: Mutex::new(session),
            desk: Mutex::new(None),
        }
    }

    /// The player a session belongs to.
    pub(crate) fn of(session: &Session) -> Result<Arc<Self>> {
        session
            .value("player")
            .ok_or_else(|| Error::new(code::FORBIDDEN, "log in first"))
    }

    pub(crate) fn session(&self) -> Session {
        self.session.lock().clone()
    }

    /// Moves to another session, and gives back the one before.
    pub(crate) fn attach(self: &Arc<Self>, session: &Session) -> Session {
        session.set("player", self.clone());
        std::mem::replace(&mut *self.session.lock(), session.clone())
    }

    pub(crate) fn desk(&self) -> Result<Arc<Desk>> {
        self.desk
            .lock()
            .clone()
            .ok_or_else(|| Error::new(code::NOT_FOUND, "not at a desk"))
    }

    pub(crate) fn sit(&self, desk: Option<Arc<Desk>>) {
        let before = std::mem::replace(&mut *self.desk.lock(), desk);
        drop(before);
    }
}
