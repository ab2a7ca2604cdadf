//! Steps that every message passes between a client and the handlers.

use std::{fmt, sync::Arc};

use parking_lot::RwLock;

use crate::{error::Result, message::Message, session::Session};

type Step = Arc<dyn Fn(&Session, &mut Message) -> Result + Send + Sync>;

/// Steps that every message between this node and its clients passes: encryption, counting,
/// filtering.
///
/// Each message passes once, on the node the client is connected to. Inbound steps run where the
/// message arrived, before its body is decoded. Outbound steps run where it is written, in the
/// order of the wire, so that a stream cipher works. Both may change the message.
///
/// Steps run on network threads: they must not block. The first error stops the message; a request
/// fails with that error. A panic is an error [`code::INTERNAL`](crate::code::INTERNAL).
///
/// ```
/// use nano::{App, Error, Pipeline, code};
///
/// let pipeline = Pipeline::new();
/// // Before login, clients reach one service only.
/// pipeline.inbound().push_back(|session, message| {
///     if session.uid() == 0 && !message.route.starts_with("Account.") {
///         return Err(Error::new(code::FORBIDDEN, "log in first"));
///     }
///     Ok(())
/// });
/// let app = App::new().pipeline(pipeline);
/// ```
#[derive(Debug, Default)]
pub struct Pipeline {
    inbound: Channel,
    outbound: Channel,
}

impl Pipeline {
    /// A pipeline without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// The steps of messages from clients.
    pub fn inbound(&self) -> &Channel {
        &self.inbound
    }

    /// The steps of messages to clients.
    pub fn outbound(&self) -> &Channel {
        &self.outbound
    }
}

/// One direction of a [`Pipeline`]. It may change while the node runs.
#[derive(Default)]
pub struct Channel {
    /// Copied on every change, so that the lock guards the list alone and no step runs under it.
    steps: RwLock<Arc<Vec<Step>>>,
}

impl Channel {
    /// Adds a step before all others.
    pub fn push_front(
        &self,
        step: impl Fn(&Session, &mut Message) -> Result + Send + Sync + 'static,
    ) {
        Arc::make_mut(&mut *self.steps.write()).insert(0, Arc::new(step));
    }

    /// Adds a step behind all others.
    pub fn push_back(
        &self,
        step: impl Fn(&Session, &mut Message) -> Result + Send + Sync + 'static,
    ) {
        Arc::make_mut(&mut *self.steps.write()).push(Arc::new(step));
    }

    /// Whether it has no steps.
    pub fn is_empty(&self) -> bool {
        self.steps.read().is_empty()
    }

    /// Runs all steps over a message.
    ///
    /// # Errors
    /// The error of the first step that fails. Later steps do not run.
    pub fn process(&self, session: &Session, message: &mut Message) -> Result {
        let steps = self.steps.read().clone();
        steps.iter().try_for_each(|step| step(session, message))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("steps", &self.steps.read().len())
            .finish()
    }
}
