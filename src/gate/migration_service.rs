//! The gate, towards gates that drain.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use prost::Message;
use tokio::runtime;

use super::{
    migration_in::{adopt, takes},
    shared::Shared,
};
use crate::{
    cluster::{NodeCall, NodeService, SessionAdopt, SessionClose},
    error::{Error, Result, code},
    kick::Kick,
    session::CloseReason,
};

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

    /// Closes a session that was closed at its former gate while it moved.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`].
    fn close(&self, request: SessionClose) -> Result {
        let gate = self.gate()?;
        let session = gate.node.sessions().find_local(request.session);
        let session = session.ok_or_else(|| Error::new(code::NOT_FOUND, "no such session"))?;
        session.sink().close(match request.kick.is_empty() {
            true => CloseReason::Closed(request.reason),
            false => CloseReason::KickedWith(Kick::decode(&request.kick)),
        });
        Ok(())
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
                match decoded.and_then(|message| Ok((self.gate()?, message))) {
                    Ok((gate, message)) => drop(self.runtime.spawn(async move {
                        let adopted = adopt(gate, message, call.from.clone()).await;
                        call.respond(adopted.map(|()| Bytes::new()));
                    })),
                    Err(error) => call.fail(error),
                }
            }
            "Ready" => {
                let ready = self.gate().and_then(|gate| takes(&gate));
                call.respond(ready.map(|_| Bytes::new()));
            }
            "Close" => {
                let closed = decode(&call.body).and_then(|request| self.close(request));
                call.respond(closed.map(|()| Bytes::new()));
            }
            _ => call.fail(Error::bad_request("no such method")),
        }
    }
}

fn decode<Request: Message + Default>(body: &Bytes) -> Result<Request> {
    Request::decode(body.clone())
        .map_err(|error| Error::bad_request("invalid message of a gate").with_source(error))
}
