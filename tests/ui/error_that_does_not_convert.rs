use nano::{Component, Handlers, Session};

struct Room;

enum RoomError {
    Full,
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    fn join(&self, _: &Session, _: String) -> Result<usize, RoomError> {
        Err(RoomError::Full)
    }
}

fn main() {}
