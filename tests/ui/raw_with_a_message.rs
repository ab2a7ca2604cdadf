use nano::{Component, Handlers, Result, Session};

struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Upload", Self::upload)
    }
}

impl Room {
    fn upload(&self, _: &Session, picture: Vec<u8>) -> Result<usize> {
        Ok(picture.len())
    }
}

fn main() {}
