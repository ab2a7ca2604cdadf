//! Rooms with a scheduler each, and a lobby that brings players to them.

use std::{
    collections::HashMap,
    str,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use nano::{Component, Error, Group, Handle, Handlers, Result, Scheduler, Session, code};
use parking_lot::Mutex;

/// Under which name sessions are pinned to the scheduler of their room, and where the room is
/// found.
pub(crate) const SCHEDULER: &str = "room";
const ROOM: &str = "room.group";

#[derive(Default)]
pub(crate) struct Lobby {
    node: OnceLock<Handle>,
    rooms: Mutex<HashMap<u32, (Arc<Group>, Scheduler)>>,
}

impl Component for Lobby {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Enter", Self::enter)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        self.node.get_or_init(|| node.clone());
        Ok(())
    }
}

impl Lobby {
    /// The body begins with the number of the room, eight hexadecimal digits.
    fn enter(&self, session: &Session, body: Bytes) -> Result<Bytes> {
        let digits = body
            .get(..8)
            .ok_or_else(|| Error::new(code::BAD_REQUEST, "no room"))?;
        let number = u32::from_str_radix(str::from_utf8(digits)?, 16)?;
        let node = self
            .node
            .get()
            .ok_or_else(|| Error::new(code::UNAVAILABLE, "not started"))?;
        let room = || {
            (
                Arc::new(Group::new(number.to_string())),
                node.new_scheduler(number.to_string()),
            )
        };
        let (group, scheduler) = self.rooms.lock().entry(number).or_insert_with(room).clone();
        group.add(session)?;
        session.pin(SCHEDULER, &scheduler);
        session.set(ROOM, group);
        Ok(body)
    }
}

pub(crate) struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Move", Self::moved)
    }
}

impl Room {
    /// Pushes to every session of the room.
    fn moved(&self, session: &Session, body: Bytes) -> Result {
        let group: Arc<Group> = session
            .value(ROOM)
            .ok_or_else(|| Error::new(code::UNAVAILABLE, "in no room"))?;
        group.broadcast_raw("onMove", body)
    }
}
