//! What the load asks of a server. The program in `peers/nano-go` has the same.

use std::sync::Arc;

use bytes::Bytes;
use nano::{Component, Group, Handlers, Result, Session};
use serde::{Deserialize, Serialize};

pub(crate) struct Echo;

impl Component for Echo {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Echo", Self::echo).raw("Push", Self::push)
    }
}

impl Echo {
    fn echo(&self, _: &Session, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn push(&self, session: &Session, body: Bytes) -> Result {
        session.push_raw("onEcho", body)
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Ping {
    content: String,
}

/// JSON, read and written.
pub(crate) struct Pb;

impl Component for Pb {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Echo", Self::echo)
    }
}

impl Pb {
    fn echo(&self, _: &Session, ping: Ping) -> Result<Ping> {
        Ok(ping)
    }
}

/// One group of all sessions that join.
#[derive(Default)]
pub(crate) struct Grp {
    group: Group,
}

impl Component for Grp {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Join", Self::join).raw("Send", Self::send)
    }
}

impl Grp {
    fn join(&self, session: &Session, body: Bytes) -> Result<Bytes> {
        self.group.add(session)?;
        Ok(body)
    }

    fn send(&self, _: &Session, body: Bytes) -> Result {
        self.group.broadcast_raw("onBroadcast", body)
    }
}

/// Asks another node on behalf of its client.
pub(crate) struct Caller;

impl Component for Caller {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Echo", Self::echo)
    }
}

impl Caller {
    async fn echo(self: Arc<Self>, session: Session, body: Bytes) -> Result<Bytes> {
        session.call("Echo.Echo").raw(body).await
    }
}
