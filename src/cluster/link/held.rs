//! What waits for the gate of a session while the session moves to another one. No I/O.

use bytes::Bytes;

use super::{config::SESSION_QUOTA, proto::Frame};
use crate::{
    error::{Error, Result, code},
    session::{CloseReason, UserId},
};

/// Something for the gate of a session.
pub(in crate::cluster) enum HeldItem {
    /// A push, or a message or call on behalf of the session.
    Frame(Frame),
    Respond(u64, Result<Bytes>),
    Close(CloseReason),
    Bind(Option<UserId>),
    Route(String, Option<String>),
    /// The value under this key has changed.
    Share(String),
}

/// What waits, in order. Frames are bounded as those that are queued for the session on a link;
/// responses are, by the requests in flight.
#[derive(Default)]
pub(super) struct Held {
    items: Vec<HeldItem>,
    bytes: usize,
}

impl Held {
    /// Keeps a frame.
    ///
    /// # Errors
    /// [`code::TOO_MANY`].
    pub(super) fn push(&mut self, frame: Frame) -> Result {
        let bytes = self.bytes + frame.weight();
        if bytes > SESSION_QUOTA.0 {
            let text = "the session moves to another gate, and takes no more until then";
            return Err(Error::new(code::TOO_MANY, text));
        }
        self.bytes = bytes;
        self.items.push(HeldItem::Frame(frame));
        Ok(())
    }

    pub(super) fn respond(&mut self, request: u64, answer: Result<Bytes>) {
        self.add(HeldItem::Respond(request, answer));
    }

    pub(super) fn add(&mut self, item: HeldItem) {
        self.items.push(item);
    }

    pub(super) fn into_items(self) -> Vec<HeldItem> {
        self.items
    }
}
