use nano::{Component, Handlers, Protobuf, Result, Session};

struct Room;

#[derive(Clone, PartialEq, prost::Message)]
struct Join {
    #[prost(string, tag = "1")]
    name: String,
}

impl Component<Protobuf> for Room {
    fn handlers(h: Handlers<Self, Protobuf>) -> Handlers<Self, Protobuf> {
        h.on("Join", Self::join)
    }
}

impl Room {
    fn join(&self, session: &Session, join: Join) -> Result<Join> {
        session.bind(1)?;
        Ok(join)
    }
}

fn main() {}
