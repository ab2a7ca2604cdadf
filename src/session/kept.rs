//! What keeps a session on its node.

use super::handle::SessionInner;

/// A part of a session that is on one node alone, and cannot go to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Values of [`Session::set`](super::Session::set).
    Data,
    Extensions,
    /// Schedulers it is pinned to.
    Pins,
    /// Callbacks that run when it ends.
    Callbacks,
    Groups,
    /// Messages that are not handled to the end.
    Messages,
}

impl Kept {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Extensions => "extensions",
            Self::Pins => "pins",
            Self::Callbacks => "callbacks",
            Self::Groups => "groups",
            Self::Messages => "messages",
        }
    }
}

impl SessionInner {
    /// What this node keeps of the session for the application, the first of several. Channels do not
    /// count.
    pub(crate) fn kept(&self) -> Option<Kept> {
        let parts = [
            (!self.data.is_empty(), Kept::Data),
            (self.extensions.count() != 0, Kept::Extensions),
            (!self.pins.is_empty(), Kept::Pins),
            (self.close_state.has_callbacks(), Kept::Callbacks),
            (self.close_state.is_in_group(), Kept::Groups),
            (!self.sequencer.is_idle(), Kept::Messages),
        ];
        let kept = parts.into_iter().find(|(is_kept, _)| *is_kept);
        kept.map(|(_, part)| part)
    }
}
