//! The gate, towards gates that drain.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tokio::runtime;

use super::{
    migration_in::{adopt, takes},
    migration_message::CLOSE,
    shared::Shared,
};
use crate::{
    cluster::{NodeCall, NodeService, SessionAdopt, SessionClose},
    error::{Error, Result, code},
    kick::Kick,
    session::CloseReason,
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
    /// [`code::NOT_FOUND`].
    fn close(&self, call: &NodeCall) -> Result<Option<PassedOn>> {
        let request = decode::<SessionClose>(&call.body)?;
        let gate = self.gate()?;
        let missing = || Error::new(code::NOT_FOUND, "no such session");
        let Some(session) = gate.node.sessions().find_local(request.session) else {
            let to = gate.resumable.moved_to(request.session);
            let (to, tunnels) = to.zip(gate.tunnels.as_ref()).ok_or_else(missing)?;
            let key = request.session.unsigned_abs();
            let closed = tunnels
                .caller
                .call::<_, ()>(&to, key, CLOSE, &request, PASS_ON_TIMEOUT);
            return Ok(Some(Box::pin(closed)));
        };
        session.sink().close(match request.kick.is_empty() {
            true => CloseReason::Closed(request.reason),
            false => CloseReason::KickedWith(Kick::decode(&request.kick)),
        });
        Ok(None)
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

fn decode<Request: Message + Default>(body: &Bytes) -> Result<Request> {
    Request::decode(body.clone())
        .map_err(|error| Error::bad_request("invalid message of a gate").with_source(error))
}
