use nano::{Group, Result, Session};

struct Joined {
    _name: String,
}

fn tell(session: &Session, group: &Group, joined: &Joined) -> Result {
    session.push("onJoined", joined)?;
    group.broadcast("onJoined", joined)
}

fn main() {}
