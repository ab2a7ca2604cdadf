//! The session of a call that no client stands behind.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;

use crate::{
    error::{Error, Result, code},
    session::{CloseReason, Push, Session, SessionSink, Sessions},
};

/// Creates the session for the handler of a node's own call. It has no client, no table lists it,
/// and it ends with the call.
pub(super) fn detached_session(sessions: &Arc<Sessions>) -> Session {
    Session::outside(
        0,
        Arc::new(DetachedSink),
        Arc::<Sessions>::downgrade(sessions),
    )
}

/// A session sink without a client: every message to it fails with [`code::CLOSED`].
struct DetachedSink;

impl DetachedSink {
    fn error() -> Error {
        Error::new(code::CLOSED, "a call of a node has no client")
    }
}

impl SessionSink for DetachedSink {
    fn push(&self, _: &Push<'_>) -> Result {
        Err(Self::error())
    }

    fn respond(&self, _: u64, _: Result<Bytes>) -> Result {
        Err(Self::error())
    }

    fn rpc(&self, _: &Session, _: &str, _: Bytes) -> Result {
        Err(Self::error())
    }

    fn close(&self, _: CloseReason) {}

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
}
