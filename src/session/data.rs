//! Values an application keeps on a session under string keys, as in Go nano.

use std::{any::Any, collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;

type Value = Arc<dyn Any + Send + Sync>;

/// A snapshot of a session's data under keys, to restore it later or on another session.
///
/// Values are shared, not copied.
///
/// ```
/// use nano::{Session, State};
///
/// /// Moves what a player has on an old session to the new one.
/// fn take_over(old: &Session, new: &Session) {
///     let mut state: State = old.state();
///     state.set("taken over", true);
///     new.restore(state);
/// }
/// ```
#[derive(Clone, Default)]
pub struct State(HashMap<String, Value>);

impl State {
    /// The keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A copy of the value under a key; `None` if there is none or it is not a `T`.
    pub fn value<T: Clone + 'static>(&self, key: &str) -> Option<T> {
        self.0.get(key)?.downcast_ref::<T>().cloned()
    }

    /// Stores a value, in place of one under the same key.
    pub fn set<T: Send + Sync + 'static>(&mut self, key: impl Into<String>, value: T) {
        self.0.insert(key.into(), Arc::new(value));
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[derive(Default)]
pub(crate) struct Data(RwLock<State>);

impl Data {
    pub(super) fn set<T: Send + Sync + 'static>(&self, key: String, value: T) {
        let old = self.0.write().0.insert(key, Arc::new(value));
        // Dropped without the lock: a value's drop is the application's code.
        drop(old);
    }

    pub(super) fn value<T: Clone + 'static>(&self, key: &str) -> Option<T> {
        let value = self.0.read().0.get(key).cloned();
        value?.downcast_ref::<T>().cloned()
    }

    pub(super) fn has_key(&self, key: &str) -> bool {
        self.0.read().0.contains_key(key)
    }

    pub(super) fn remove(&self, key: &str) {
        let old = self.0.write().0.remove(key);
        drop(old);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.read().0.is_empty()
    }

    pub(super) fn state(&self) -> State {
        self.0.read().clone()
    }

    pub(super) fn restore(&self, state: State) {
        let old = std::mem::replace(&mut *self.0.write(), state);
        drop(old);
    }
}
