//! What a node does for other nodes that no component serves: the directory, channels.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{
    error::{Error, code},
    session::ReplyTo,
};

/// A service of the node itself. Clients cannot reach it.
pub(crate) trait NodeService: Send + Sync {
    /// Answers a call, now or later. Runs on an I/O thread, so it must not block.
    ///
    /// `method` is the name behind the dot. Calls of one key come in the order sent.
    fn answer(&self, method: &str, call: NodeCall);

    /// A stream to or from the node at this address broke, or the node is gone: what was under way is
    /// lost. Runs on an I/O thread, so it must not block.
    fn disconnected(&self, _node: &str) {}
}

/// A call of another node of this crate, or of this one.
pub(crate) struct NodeCall {
    /// The address of the node that calls.
    pub(crate) from: Arc<str>,
    pub(crate) body: Bytes,
    /// Takes the answer; `None` for a one-way message.
    pub(crate) caller: Option<Arc<ReplyTo>>,
}

/// The services of one node, by name.
#[derive(Default)]
pub(crate) struct NodeServices {
    /// Filled when the node starts, before others can call it. No service runs under the lock.
    services: RwLock<Vec<(&'static str, Arc<dyn NodeService>)>>,
}

impl NodeServices {
    /// Adds a service. Its name has no dot.
    pub(crate) fn insert(&self, name: &'static str, service: Arc<dyn NodeService>) {
        self.services.write().push((name, service));
    }

    /// Hands a call to its service. `method` is `Service.Method`.
    pub(in crate::cluster) fn answer(&self, method: &str, call: NodeCall) {
        let found = method.split_once('.').and_then(|(name, method)| {
            let services = self.services.read();
            let (_, service) = services.iter().find(|(known, _)| *known == name)?;
            Some((service.clone(), method))
        });
        match found {
            Some((service, method)) => service.answer(method, call),
            None => call.fail(unknown(method)),
        }
    }

    /// Lets all services know that a stream to or from a node broke, or that the node is gone.
    pub(in crate::cluster) fn disconnected(&self, node: &str) {
        let services: Vec<_> = {
            let services = self.services.read();
            services
                .iter()
                .map(|(_, service)| service.clone())
                .collect()
        };
        for service in services {
            service.disconnected(node);
        }
    }
}

impl NodeCall {
    /// Answers the call with an error. Does nothing for a one-way message.
    pub(crate) fn fail(self, error: Error) {
        self.respond(Err(error));
    }

    /// Answers the call. Does nothing for a one-way message, or when the caller no longer waits.
    pub(crate) fn respond(self, answer: Result<Bytes, Error>) {
        if let Some(caller) = self.caller {
            let _ = caller.answer(answer);
        }
    }
}

/// The error for a method that a node does not have: it is of an older version.
pub(crate) fn unknown(method: &str) -> Error {
    Error::new(
        code::UNSUPPORTED,
        format!("the node has no method {method}"),
    )
}
