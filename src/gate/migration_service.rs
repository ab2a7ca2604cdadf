//! The gate, towards gates that drain.

use std::{
    any::Any,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tokio::runtime;

use super::{
    handle::ConnectionHandle,
    migration_close::read_close,
    migration_in::{adopt, takes},
    migration_message::CLOSE,
    shared::Shared,
};
use crate::{
    cluster::{NodeCall, NodeService, SessionAdopt, SessionClose},
    error::{Error, Result, code},
    session::{CloseReason, Session},
};

/// How long the gate to which a session has moved on has to close it.
const PASS_ON_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of a call that was passed on.
type PassedOn = Pin<Box<dyn Future<Output = Result> + Send>>;

/// Takes sessions from gates that drain.
pub(super) struct MigrationService {
    gate: Weak<Shared>,
    runtime: runtime::Handle,
}

impl MigrationService {
    /// On the runtime of the gate's connections.
    pub(super) fn new(gate: &Arc<Shared>) -> Self {
        Self {
            gate: Arc::downgrade(gate),
            runtime: runtime::Handle::current(),
        }
    }

    /// Closes a session that was closed at its former gate while it moved. One that has moved on is
    /// closed at its next gate.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`], [`code::UNAVAILABLE`] if it arrives.
    fn close(&self, call: &NodeCall) -> Result<Option<PassedOn>> {
        let request = decode::<SessionClose>(&call.body)?;
        let (gate, id) = (self.gate()?, request.session);
        // Before it is looked for: it may have arrived then.
        let arrives = gate.migrations.is_arriving(id);
        let session = gate.node.sessions().find_local(id);
        if session.is_some_and(|session| is_closed(&session, read_close(&request))) {
            return Ok(None);
        }
        let to = gate.resumable.moved_to(id);
        let (to, tunnels) = to.zip(gate.tunnels.as_ref()).ok_or_else(|| match arrives {
            true => Error::new(code::UNAVAILABLE, "the session arrives"),
            false => Error::new(code::NOT_FOUND, "no such session"),
        })?;
        let (caller, key) = (&tunnels.caller, id.unsigned_abs());
        let closed = caller.call::<_, ()>(&to, key, CLOSE, &request, PASS_ON_TIMEOUT);
        Ok(Some(Box::pin(closed)))
    }

    fn gate(&self) -> Result<Arc<Shared>> {
        let gate = self.gate.upgrade();
        gate.ok_or_else(|| Error::new(code::UNSUPPORTED, "the gate has stopped"))
    }
}

impl NodeService for MigrationService {
    fn answer(&self, method: &str, call: NodeCall) {
        match method {
            "Adopt" => {
                let decoded = decode::<SessionAdopt>(&call.body);
                let begun = decoded.and_then(|it| adopt(self.gate()?, it, call.from.clone()));
                match begun {
                    Ok(Some(adopting)) => drop(self.runtime.spawn(async move {
                        call.respond(adopting.await.map(|()| Bytes::new()));
                    })),
                    done => call.respond(done.map(|_| Bytes::new())),
                }
            }
            "Ready" => {
                let ready = self.gate().and_then(|gate| takes(&gate));
                call.respond(ready.map(|_| Bytes::new()));
            }
            "Close" => match self.close(&call) {
                Ok(Some(closed)) => drop(self.runtime.spawn(async move {
                    call.respond(closed.await.map(|()| Bytes::new()));
                })),
                closed => call.respond(closed.map(|_| Bytes::new())),
            },
            _ => call.fail(Error::bad_request("no such method")),
        }
    }
}

/// Closes a session; false if another gate has it now, or it has ended.
fn is_closed(session: &Session, reason: CloseReason) -> bool {
    let sink: &dyn Any = &**session.sink();
    let handle = sink.downcast_ref::<ConnectionHandle>();
    handle.is_some_and(|handle| handle.try_close(reason.into()))
}

fn decode<Request: Message + Default>(body: &Bytes) -> Result<Request> {
    Request::decode(body.clone())
        .map_err(|error| Error::bad_request("invalid message of a gate").with_source(error))
}
