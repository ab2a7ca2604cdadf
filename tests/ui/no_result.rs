use nano::{Component, Handlers, Session};

struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    fn join(&self, session: &Session, _: String) -> i64 {
        session.id()
    }
}

fn main() {}
