//! The values that all nodes which serve a session share, as one node has them.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::RwLock;
use serde::de::IgnoredAny;

use crate::error::{Error, Result, code};

/// The bytes of all keys and values of one session, at most.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// The longest key, in bytes.
const MAX_KEY: usize = 255;

/// JSON by key. A session without values has no table.
#[derive(Debug, Default)]
pub(crate) struct SharedValues(RwLock<Option<Box<Table>>>);

#[derive(Debug, Default)]
struct Table {
    values: BTreeMap<String, Bytes>,
    bytes: usize,
}

impl SharedValues {
    /// The value under a key, as JSON.
    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        self.0.read().as_ref()?.values.get(key).cloned()
    }

    /// All values, in the order of their keys.
    pub(crate) fn all(&self) -> Vec<(String, Bytes)> {
        let table = self.0.read();
        let values = table.iter().flat_map(|table| &table.values);
        values
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Sets the value under a key, or removes it. Returns the value before.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for a key that is empty or over 255 bytes, or a value that is not JSON;
    /// [`code::TOO_LARGE`] when all together would exceed 64 KiB. Nothing changes then.
    pub(crate) fn set(&self, key: &str, value: Option<Bytes>) -> Result<Option<Bytes>> {
        self.set_within(MAX_BYTES, key, value)
    }

    /// Takes over a value of the gate. This node's own changes that the gate has not seen yet may
    /// exceed the bound together with it.
    ///
    /// # Errors
    /// As [`set`](SharedValues::set), at twice the bound.
    pub(crate) fn follow(&self, key: &str, value: Option<Bytes>) -> Result {
        self.set_within(2 * MAX_BYTES, key, value).map(drop)
    }

    fn set_within(&self, limit: usize, key: &str, value: Option<Bytes>) -> Result<Option<Bytes>> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Error::new(
                code::BAD_REQUEST,
                format!("a key has 1 to {MAX_KEY} bytes, not {}", key.len()),
            ));
        }
        let Some(value) = value else {
            return Ok(self.remove(key));
        };
        serde_json::from_slice::<IgnoredAny>(&value)
            .map_err(|_| Error::new(code::BAD_REQUEST, "a shared value that is not JSON"))?;
        let mut table = self.0.write();
        let (used, before) = table.as_ref().map_or((0, None), |table| {
            (table.bytes, table.values.get(key).map(Bytes::len))
        });
        let after =
            used + value.len() - before.unwrap_or(0) + if before.is_none() { key.len() } else { 0 };
        if after > limit {
            return Err(Error::new(
                code::TOO_LARGE,
                format!("{after} bytes of shared values, over the limit of {limit}"),
            ));
        }
        let table = table.get_or_insert_default();
        table.bytes = after;
        Ok(table.values.insert(key.to_owned(), value))
    }

    fn remove(&self, key: &str) -> Option<Bytes> {
        let mut slot = self.0.write();
        let table = slot.as_mut()?;
        let removed = table.values.remove(key)?;
        table.bytes -= key.len() + removed.len();
        if table.values.is_empty() {
            *slot = None;
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn keys_and_values_together_have_a_bound_and_a_refused_change_changes_nothing() {
        let values = SharedValues::default();
        let fits = format!("\"{}\"", "x".repeat(MAX_BYTES - 3));
        values.set("k", json(&fits)).unwrap();
        for (key, value) in [("l", "1"), ("k", &format!("{fits} ")[..])] {
            let error = values.set(key, json(value)).unwrap_err();
            assert_eq!(error.code(), code::TOO_LARGE);
        }
        assert_eq!(values.all(), [("k".to_owned(), json(&fits).unwrap())]);
        // Its place is free again.
        assert_eq!(values.set("k", None).unwrap(), json(&fits));
        assert!(values.0.read().is_none());
        values.set("l", json(&fits)).unwrap();
    }

    #[test]
    fn keys_and_values_are_checked() {
        let values = SharedValues::default();
        for (key, value) in [
            ("", "1"),
            (&"k".repeat(256)[..], "1"),
            ("k", "{"),
            ("k", ""),
        ] {
            let error = values.set(key, json(value)).unwrap_err();
            assert_eq!(error.code(), code::BAD_REQUEST, "{key} {value}");
        }
        values.set(&"k".repeat(255), json("null")).unwrap();
    }
}
