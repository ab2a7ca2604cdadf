use nano::{Component, Handlers, Protobuf, Result, Session};

struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    fn join(&self, session: &Session<Protobuf>, _: String) -> Result<i64> {
        Ok(session.id())
    }
}

fn main() {}
