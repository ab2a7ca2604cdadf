//! The end of a session: its reason, close callbacks and groups.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::close_reason::CloseReason;

/// Tells the sessions of a process apart, also two that share an id.
///
/// The address of the state that all handles of the session share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey(usize);

impl SessionKey {
    pub(super) fn of<T>(shared: &Arc<T>) -> Self {
        Self(Arc::as_ptr(shared).addr())
    }
}

/// A group, as its members see it.
pub(crate) trait GroupRef: Send + Sync {
    /// Removes the member with this key.
    fn forget(&self, member: SessionKey);

    /// The group's name; `None` for what is no group of the application's.
    #[cfg(feature = "admin")]
    fn name(&self) -> Option<&str>;
}

/// What remains to be done for a session that has ended.
pub(super) struct Ended<C> {
    pub(super) callbacks: Vec<C>,
    pub(super) groups: Vec<Arc<dyn GroupRef>>,
}

/// Ends one session, at most once. `C` is the type of its close callbacks.
///
/// The lock guards the reason, the callbacks and the list of groups. It is taken while a group's
/// lock is held ([`join`](CloseState::join)), never the other way round.
pub(crate) struct CloseState<C>(Mutex<State<C>>);

struct State<C> {
    closed: Option<CloseReason>,
    /// By number, in the order they were registered.
    callbacks: Vec<(u64, C)>,
    next_callback: u64,
    groups: Vec<Weak<dyn GroupRef>>,
    /// Stands for all channels of the session, which go along when it moves to another gate.
    channels: Option<Weak<dyn GroupRef>>,
    /// Cancelled when the session ends; made when a handler waits for that.
    signal: Option<CancellationToken>,
}

impl<C> CloseState<C> {
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.0.lock().closed.clone()
    }

    /// A token that is cancelled when the session ends, ahead of its callbacks.
    pub(super) fn signal(&self) -> CancellationToken {
        let mut state = self.0.lock();
        let token = state
            .signal
            .get_or_insert_with(CancellationToken::new)
            .clone();
        let closed = state.closed.is_some();
        drop(state);
        if closed {
            token.cancel();
        }
        token
    }

    /// Keeps the callback under a number.
    ///
    /// # Errors
    /// The session is closed: gives the callback back with the reason.
    pub(super) fn on_closed(&self, callback: C) -> Result<u64, (C, CloseReason)> {
        let mut state = self.0.lock();
        if let Some(reason) = &state.closed {
            return Err((callback, reason.clone()));
        }
        let id = state.next_callback;
        state.next_callback += 1;
        state.callbacks.push((id, callback));
        Ok(id)
    }

    /// Takes the callback with this number back; `None` when the session has closed.
    pub(super) fn withdraw(&self, id: u64) -> Option<C> {
        let mut state = self.0.lock();
        let at = state.callbacks.binary_search_by_key(&id, |(id, _)| *id);
        Some(state.callbacks.remove(at.ok()?).1)
    }

    /// Remembers a group the session joins. False when the session is closed and may not join.
    pub(crate) fn join(&self, group: Weak<dyn GroupRef>) -> bool {
        let mut state = self.0.lock();
        if state.closed.is_some() {
            return false;
        }
        // Groups dropped with members in them are still listed. They are removed when the list
        // would grow, so that joining stays cheap.
        if state.groups.len() == state.groups.capacity() {
            state.groups.retain(|joined| joined.strong_count() > 0);
        }
        state.groups.push(group);
        true
    }

    /// Remembers what learns of the session's end for all its channels. False when the session is
    /// closed and may enter none.
    pub(crate) fn enter_channels(&self, channels: Weak<dyn GroupRef>) -> bool {
        let mut state = self.0.lock();
        let is_open = state.closed.is_none();
        if is_open {
            state.channels = Some(channels);
        }
        is_open
    }

    /// Notes that the session has left its last channel.
    pub(crate) fn leave_channels(&self) {
        self.0.lock().channels = None;
    }

    /// Whether a callback runs when the session ends.
    pub(super) fn has_callbacks(&self) -> bool {
        !self.0.lock().callbacks.is_empty()
    }

    pub(super) fn is_in_group(&self) -> bool {
        let state = self.0.lock();
        state.groups.iter().any(|group| group.strong_count() > 0)
    }

    /// The names of the groups the session is in.
    #[cfg(feature = "admin")]
    pub(crate) fn groups(&self) -> Vec<String> {
        let groups: Vec<_> = {
            let state = self.0.lock();
            state.groups.iter().filter_map(Weak::upgrade).collect()
        };
        // Without the lock: the last reference to a group drops its members.
        let names = groups.iter().filter_map(|group| group.name());
        names.map(str::to_owned).collect()
    }

    pub(crate) fn leave(&self, group: &Weak<dyn GroupRef>) {
        let mut state = self.0.lock();
        if let Some(at) = state
            .groups
            .iter()
            .position(|joined| Weak::ptr_eq(joined, group))
        {
            state.groups.swap_remove(at);
        }
    }

    /// Ends the session. The first caller gets the callbacks to run and the groups to leave.
    pub(super) fn end(&self, reason: &CloseReason) -> Option<Ended<C>> {
        let mut state = self.0.lock();
        if state.closed.is_some() {
            return None;
        }
        state.closed = Some(reason.clone());
        let mut groups = std::mem::take(&mut state.groups);
        groups.extend(state.channels.take());
        let callbacks = std::mem::take(&mut state.callbacks);
        let signal = state.signal.take();
        drop(state);
        if let Some(signal) = signal {
            signal.cancel();
        }
        Some(Ended {
            callbacks: callbacks.into_iter().map(|(_, call)| call).collect(),
            groups: groups.iter().filter_map(Weak::upgrade).collect(),
        })
    }
}

impl<C> Default for CloseState<C> {
    fn default() -> Self {
        Self(Mutex::new(State {
            closed: None,
            callbacks: Vec::new(),
            next_callback: 0,
            groups: Vec::new(),
            channels: None,
            signal: None,
        }))
    }
}
