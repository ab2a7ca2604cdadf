use nano::{Component, Handlers, Result, Session};

struct Room;

struct Join {
    name: String,
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    fn join(&self, _: &Session, join: Join) -> Result<usize> {
        Ok(join.name.len())
    }
}

fn main() {}
