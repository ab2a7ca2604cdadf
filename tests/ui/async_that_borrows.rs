use nano::{Component, Handlers, Result, Session};

struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    async fn join(&self, session: &Session, _: String) -> Result<i64> {
        Ok(session.id())
    }
}

fn main() {}
