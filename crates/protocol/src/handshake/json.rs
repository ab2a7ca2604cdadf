//! JSON of packet bodies: written as Go writes it, read field by field.

use std::collections::BTreeMap;

use serde_json::{Map, Value, value::RawValue};

use crate::serialize::repair;

/// JSON as Go writes it, which is also safe inside HTML. These characters occur in strings only.
pub(crate) fn to_json(value: &Value) -> String {
    let plain = value.to_string();
    let mut json = String::with_capacity(plain.len());
    for char in plain.chars() {
        match char {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                json.push_str(&format!("\\u{:04x}", u32::from(char)))
            }
            _ => json.push(char),
        }
    }
    json
}

/// The fields of an object that can be read.
pub(crate) fn object(body: &[u8]) -> Map<String, Value> {
    read_object(body)
        .map(|(fields, _)| fields)
        .unwrap_or_default()
}

/// The fields of an object, and why some are missing, if some could not be read.
pub(super) fn read_object(body: &[u8]) -> serde_json::Result<(Map<String, Value>, Option<String>)> {
    let body = repair(body);
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(&body)?;
    let mut unread = None;
    let mut object = Map::new();
    for (field, value) in fields {
        match serde_json::from_str(value.get()) {
            Ok(value) => {
                object.insert(field, value);
            }
            Err(error) => unread = Some(format!("{field}: {error}")),
        }
    }
    Ok((object, unread))
}

pub(crate) fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}
