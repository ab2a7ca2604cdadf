use nano::{Component, Handlers, Result, Session};

struct Room;

struct Joined {
    _name: String,
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    fn join(&self, _: &Session, _name: String) -> Result<Joined> {
        Ok(Joined { _name })
    }
}

fn main() {}
