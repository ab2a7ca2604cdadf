use nano::{Component, Handlers, Result, Session};

struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    fn join(&self, _: &Session, name: String, seat: usize) -> Result<usize> {
        Ok(name.len() + seat)
    }
}

fn main() {}
