use nano::{Component, Handlers, Result, Session};

struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    fn join(&self, session: &Session, _: ()) -> Result<i64> {
        let room: Option<i64> = session.value("room");
        Ok(room.ok_or("no such room")?)
    }
}

fn main() {}
