//! The values that all nodes which serve a session share, as the application sees and changes them.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::handle::Session;
use crate::{
    error::{Error, Result, code},
    metrics::RefusedInput,
    serialize::{Json, Serializer},
};

/// The shared values of one session: JSON under keys, the same on every node that serves it.
///
/// The gate of the session orders the changes of all nodes, and passes each on to the nodes that
/// serve the session, ahead of the messages that follow it. A node that begins to serve the session
/// has all values with the first message. A change is seen at once on the node that makes it; of two
/// changes of one key at the same time, all nodes end with the one that reached the gate last.
///
/// Keys have 1 to 255 bytes; keys and values together have 64 KiB. Values of the node alone, of any
/// type, are [`Session::set`] and [`Session::extensions`].
///
/// ```
/// # use nano::{Result, Session};
/// fn level_up(session: &Session) -> Result {
///     let shared = session.shared();
///     let level = shared.get::<u32>("level")?.unwrap_or(1);
///     shared.set("level", &(level + 1))
/// }
/// ```
#[derive(Debug)]
pub struct SharedData<S: Serializer = Json>(pub(super) Session<S>);

impl<S: Serializer> SharedData<S> {
    /// Sets the value under a key, in place of an earlier one.
    ///
    /// A change that a broken link may have lost is sent again. A change that exceeds the bound at
    /// the gate, because another node has used up the rest meanwhile, is undone.
    ///
    /// # Errors
    /// Nothing changes then: [`code::BAD_REQUEST`] for a key that is empty or too long, or a value
    /// that JSON cannot express; [`code::TOO_LARGE`] over the bound of 64 KiB; [`code::CLOSED`] when
    /// the session has ended. On a backend also [`code::TOO_MANY`] when the gate takes no more, and
    /// [`code::UNSUPPORTED`] when the gate is a node of Go nano.
    pub fn set<T: Serialize + ?Sized>(&self, key: impl AsRef<str>, value: &T) -> Result {
        let json = serde_json::to_vec(value)
            .map_err(|error| Error::new(code::BAD_REQUEST, error.to_string()))?;
        self.change(key.as_ref(), Some(json.into()))
    }

    /// The value under a key; `None` if there is none.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] when the value is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        let json = self.0.inner().shared.get(key.as_ref());
        json.map(|json| serde_json::from_slice(&json))
            .transpose()
            .map_err(|error| Error::new(code::BAD_REQUEST, error.to_string()))
    }

    /// Removes the value under a key, and returns whether there was one.
    ///
    /// # Errors
    /// As [`set`](SharedData::set).
    pub fn remove(&self, key: impl AsRef<str>) -> Result<bool> {
        let key = key.as_ref();
        let known = self.0.inner().shared.get(key).is_some();
        if known {
            self.change(key, None)?;
        }
        Ok(known)
    }

    /// All values, by key.
    pub fn all(&self) -> Map<String, Value> {
        let values = self.0.inner().shared.all().into_iter();
        values
            .filter_map(|(key, json)| Some((key, serde_json::from_slice(&json).ok()?)))
            .collect()
    }

    fn change(&self, key: &str, value: Option<Bytes>) -> Result {
        let changed = match self.0.closed() {
            Some(_) => Err(Error::new(code::CLOSED, "the session is closed")),
            None => self.0.inner().sink.share(&self.0.typed(), key, value),
        };
        changed.inspect_err(|_| self.0.input_refused(RefusedInput::Shared))
    }
}
