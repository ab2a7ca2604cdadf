use nano::{Component, Handlers, Result, Session};

struct Room;

#[derive(Clone, PartialEq, prost::Message)]
struct Join {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Joined {
    #[prost(int64, tag = "1")]
    session: i64,
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join)
    }
}

impl Room {
    fn join(&self, session: &Session, _: Join) -> Result<Joined> {
        Ok(Joined { session: session.id() })
    }
}

fn main() {}
