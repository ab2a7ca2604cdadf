//! The types of keys: how each is read and written.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::value::Value;
use crate::{handle::Unique, net::network::Network};

/// A type that a key may have.
pub(super) trait Setting {
    /// What a value looks like, for messages and the reference.
    fn expected() -> String;

    /// Reads a value.
    ///
    /// # Errors
    /// Says what was expected, and what was found.
    fn set(&mut self, value: &Value) -> Result<(), String>;

    /// Writes the value as TOML; `None` if there is none.
    fn write(&self) -> Option<String>;

    /// What to write in a reference for a key without a value.
    fn example(&self) -> &'static str {
        "\"\""
    }
}

/// A key that has no value unless it is set.
#[derive(Debug, Clone)]
pub(super) struct Unset<T> {
    pub(super) value: Option<T>,
    example: &'static str,
}

impl<T> Unset<T> {
    /// With a value for the reference, in TOML.
    pub(super) const fn like(example: &'static str) -> Self {
        Self {
            value: None,
            example,
        }
    }
}

impl<T: PartialEq> PartialEq for Unset<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) usize);

/// Text that is kept out of logs and references.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Says that a value is of another type than its key.
pub(super) fn mismatch<T: Setting>(value: &Value) -> String {
    format!("expected {}, found {}", T::expected(), value.description())
}

/// Quotes text as a TOML string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl Setting for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        *self = match value {
            Value::Boolean(value) => *value,
            Value::Variable(text) if text == "true" => true,
            Value::Variable(text) if text == "false" => false,
            _ => return Err(mismatch::<Self>(value)),
        };
        Ok(())
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for usize {
    fn expected() -> String {
        "a whole number".to_owned()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let number = match value {
            Value::Integer(digits, radix) => usize::from_str_radix(digits, *radix).ok(),
            Value::Variable(text) => text.parse().ok(),
            _ => None,
        };
        *self = number.ok_or_else(|| mismatch::<Self>(value))?;
        Ok(())
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

const SIZES: [(&str, usize); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Setting for Size {
    fn expected() -> String {
        "a size such as \"64KiB\" or \"4MB\", or bytes".to_owned()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let with_unit = |text: &str| {
            let (unit, factor) = SIZES.iter().find(|(unit, _)| text.ends_with(unit))?;
            let number: usize = text.strip_suffix(unit)?.trim().parse().ok()?;
            number.checked_mul(*factor)
        };
        let bytes = match value {
            Value::Integer(digits, radix) => usize::from_str_radix(digits, *radix).ok(),
            Value::Text(text) => with_unit(text.trim()),
            Value::Variable(text) => text.parse().ok().or_else(|| with_unit(text.trim())),
            _ => None,
        };
        *self = Self(bytes.ok_or_else(|| mismatch::<Self>(value))?);
        Ok(())
    }

    fn write(&self) -> Option<String> {
        let binary = SIZES[..3].iter();
        let (unit, factor) = binary
            .filter(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .max_by_key(|(_, factor)| *factor)
            .unwrap_or(&SIZES[6]);
        Some(format!("\"{}{unit}\"", self.0 / factor))
    }
}

const UNITS: [(&str, u128); 5] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads a duration such as `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = &rest[..digits];
        rest = rest[digits..].trim_start();
        let unit = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == &rest[..unit])?;
        rest = rest[unit..].trim_start();
        nanos = nanos.checked_add(match number.split_once('.') {
            None => number.parse::<u128>().ok()?.checked_mul(*factor)?,
            // At most nine digits, so that the product below cannot overflow.
            Some((whole, part)) if !whole.is_empty() && (1..=9).contains(&part.len()) => {
                let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
                let whole = whole.parse::<u128>().ok()?.checked_mul(*factor)?;
                whole.checked_add(part.parse::<u128>().ok()? * factor / scale)?
            }
            Some(_) => return None,
        })?;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let below = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, below))
}

impl Setting for Duration {
    fn expected() -> String {
        "a duration such as \"30s\", \"500ms\" or \"1h30m\"".to_owned()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let duration = value.text().and_then(duration);
        *self = duration.ok_or_else(|| mismatch::<Self>(value))?;
        Ok(())
    }

    fn write(&self) -> Option<String> {
        let millis = self.as_millis();
        Some(match millis {
            0 => "\"0s\"".to_owned(),
            _ if !millis.is_multiple_of(1000) => format!("\"{millis}ms\""),
            _ if !millis.is_multiple_of(60_000) => format!("\"{}s\"", millis / 1000),
            _ => format!("\"{}m\"", millis / 60_000),
        })
    }
}

impl Setting for String {
    fn expected() -> String {
        "a string".to_owned()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        value
            .text()
            .ok_or_else(|| mismatch::<Self>(value))?
            .clone_into(self);
        Ok(())
    }

    fn write(&self) -> Option<String> {
        Some(quote(self))
    }
}

impl Setting for Secret {
    fn expected() -> String {
        "a string".to_owned()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        // What was found instead may be the secret, too.
        let text = value.text().ok_or("expected a string")?;
        *self = Self(text.to_owned());
        Ok(())
    }

    fn write(&self) -> Option<String> {
        None
    }
}

impl Setting for PathBuf {
    fn expected() -> String {
        "the path of a file".to_owned()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let text = value.text().filter(|text| !text.is_empty());
        *self = text.ok_or_else(|| mismatch::<Self>(value))?.into();
        Ok(())
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.to_string_lossy()))
    }
}

impl Setting for Network {
    fn expected() -> String {
        "a network such as \"10.0.0.0/8\", or an address".to_owned()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let network = value.text().and_then(|text| text.trim().parse().ok());
        *self = network.ok_or_else(|| mismatch::<Self>(value))?;
        Ok(())
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.to_string()))
    }
}

/// `"off"` is `None`.
impl<T: Setting + Blank> Setting for Option<T> {
    fn expected() -> String {
        format!("{}, or \"off\"", T::expected())
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        if value.text() == Some("off") {
            *self = None;
            return Ok(());
        }
        let mut inner = T::blank();
        inner.set(value).map_err(|_| mismatch::<Self>(value))?;
        *self = Some(inner);
        Ok(())
    }

    fn write(&self) -> Option<String> {
        match self {
            None => Some("\"off\"".to_owned()),
            Some(value) => value.write(),
        }
    }
}

impl<T: Setting + Blank> Setting for Unset<T> {
    fn expected() -> String {
        T::expected()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let mut inner = T::blank();
        inner.set(value)?;
        self.value = Some(inner);
        Ok(())
    }

    fn write(&self) -> Option<String> {
        self.value.as_ref().and_then(T::write)
    }

    fn example(&self) -> &'static str {
        self.example
    }
}

/// Variables separate the elements by commas.
impl<T: Setting + Blank> Setting for Vec<T> {
    fn expected() -> String {
        format!("an array, each element {}", T::expected())
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let split = |text: &String| {
            let parts = text.split(',').map(str::trim);
            let parts = parts.filter(|part| !part.is_empty());
            parts.map(|it| Value::Variable(it.to_owned())).collect()
        };
        let values: Vec<_> = match value {
            Value::Array(values) => values.clone(),
            Value::Variable(text) => split(text),
            _ => return Err(mismatch::<Self>(value)),
        };
        let read = |value: &Value| {
            let mut element = T::blank();
            element.set(value).map(|()| element)
        };
        *self = values.iter().map(read).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn write(&self) -> Option<String> {
        let values: Option<Vec<_>> = self.iter().map(T::write).collect();
        Some(format!("[{}]", values?.join(", ")))
    }
}

/// Variables separate the entries by commas, and write each as `key=value`.
impl Setting for BTreeMap<String, String> {
    fn expected() -> String {
        "a table of strings".to_owned()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        if let Value::Table(table) = value
            && let Some((key, value)) = table.iter().find(|(_, value)| value.text().is_none())
        {
            return Err(format!("{}, at {key}", mismatch::<Self>(value)));
        }
        let entries: Option<Self> = match value {
            Value::Table(table) => table
                .iter()
                .map(|(key, value)| Some((key.clone(), value.text()?.to_owned())))
                .collect(),
            Value::Variable(text) => text
                .split(',')
                .filter(|entry| !entry.trim().is_empty())
                .map(|entry| {
                    let (key, value) = entry.split_once('=')?;
                    Some((key.trim().to_owned(), value.trim().to_owned()))
                })
                .collect(),
            _ => None,
        };
        *self = entries.ok_or_else(|| mismatch::<Self>(value))?;
        Ok(())
    }

    fn write(&self) -> Option<String> {
        let entries = self.iter();
        let entries = entries.map(|(key, value)| format!("{} = {}", quote(key), quote(value)));
        let entries: Vec<_> = entries.collect();
        Some(match entries.is_empty() {
            true => "{}".to_owned(),
            false => format!("{{ {} }}", entries.join(", ")),
        })
    }
}

/// A value to read into.
pub(super) trait Blank {
    fn blank() -> Self;
}

macro_rules! blank {
    ($($type:ty = $value:expr,)*) => {$(
        impl Blank for $type {
            fn blank() -> Self {
                $value
            }
        }
    )*};
}

blank! {
    usize = 0,
    Size = Size(0),
    Option<Size> = None,
    Unique = Unique::Replace,
    Duration = Duration::ZERO,
    String = String::new(),
    Secret = Secret(String::new()),
    PathBuf = PathBuf::new(),
    Network = Network::from(std::net::IpAddr::from([0, 0, 0, 0])),
}
