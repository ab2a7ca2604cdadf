//! What an owner keeps of a session.

/// One session of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its number.
    pub(super) gate: u32,
    pub(super) session: i64,
    pub(super) claim: u64,
    /// Whether the session has ended, and its close callbacks may still run.
    pub(super) closing: bool,
}
