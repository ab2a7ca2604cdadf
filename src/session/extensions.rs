//! Typed values an application keeps on a session.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt, mem,
    sync::Arc,
};

use parking_lot::RwLock;

type Values = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// Values of a session, at most one of each type.
///
/// The typed counterpart of the data under string keys ([`Session::set`](crate::Session::set)):
/// define a type for what a component keeps, and no key can be misspelt or taken twice. Values are
/// shared, so one that changes holds a lock or an atomic. `clear` and `restore` of a session do not
/// touch them, and they do not travel to other nodes.
///
/// ```
/// use nano::{Session, mock};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// /// How often a player has moved.
/// #[derive(Default)]
/// struct Moves(AtomicU32);
///
/// fn count(session: &Session) -> u32 {
///     let moves = session.extensions().get_or_insert_with(Moves::default);
///     moves.0.fetch_add(1, Ordering::Relaxed) + 1
/// }
///
/// let (session, _) = mock::session();
/// assert_eq!((count(&session), count(&session)), (1, 2));
/// session.extensions().remove::<Moves>();
/// assert_eq!(count(&session), 1);
/// ```
///
/// The lock guards the table alone: no code of the application runs under it.
#[derive(Default)]
pub struct Extensions(RwLock<Values>);

impl Extensions {
    /// Stores a value, and returns the one of its type that it replaces.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) -> Option<Arc<T>> {
        let value = Arc::new(value);
        typed(self.0.write().insert(TypeId::of::<T>(), value))
    }

    /// Returns the value of this type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        typed(self.0.read().get(&TypeId::of::<T>()).cloned())
    }

    /// Returns the value of this type, stored first if there is none.
    ///
    /// When two threads do this at once, both may call `make`; both get the value stored first.
    pub fn get_or_insert_with<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(value) = self.get() {
            return value;
        }
        let made = Arc::new(make());
        let stored = self
            .0
            .write()
            .entry(TypeId::of::<T>())
            .or_insert_with(|| made.clone())
            .clone();
        // The key is the value's type, so the second is never needed.
        stored.downcast().unwrap_or(made)
    }

    /// Removes and returns the value of this type.
    pub fn remove<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        typed(self.0.write().remove(&TypeId::of::<T>()))
    }

    /// Removes all values.
    pub fn clear(&self) {
        // Dropped without the lock: a value's drop may ask for the table.
        let removed = mem::take(&mut *self.0.write());
        drop(removed);
    }

    /// The number of values.
    pub fn count(&self) -> usize {
        self.0.read().len()
    }
}

fn typed<T: Send + Sync + 'static>(value: Option<Arc<dyn Any + Send + Sync>>) -> Option<Arc<T>> {
    value?.downcast().ok()
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions")
            .field("count", &self.count())
            .finish()
    }
}
