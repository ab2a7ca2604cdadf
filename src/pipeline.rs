//! Functions every message passes through: encryption, counting, filtering.

use std::{fmt, sync::Arc};

use parking_lot::RwLock;

use crate::{error::Result, message::Message, session::Session};

type Step = Arc<dyn Fn(&Session, &mut Message) -> Result + Send + Sync>;

/// What all messages between this node and its clients pass through, on the node the client is
/// connected to, once each.
///
/// Inbound steps run where the message arrived, before it is decoded; outbound steps run where it
/// is written, in the order of the wire, so that a stream cipher works. Both may change the
/// message. They run on the threads that do the network's work: they must not block. The first
/// error stops the message; a request it belongs to is answered with that error.
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

    /// From the client.
    pub fn inbound(&self) -> &Channel {
        &self.inbound
    }

    /// To the client.
    pub fn outbound(&self) -> &Channel {
        &self.outbound
    }
}

/// One direction of a [`Pipeline`]. It may change while the node runs.
#[derive(Default)]
pub struct Channel {
    /// Copied when it changes, which is rare, so that no lock is held while steps run.
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
    /// That of the first step that fails; the steps behind it do not run.
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
