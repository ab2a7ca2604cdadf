//! A value of a file or a variable, before its key has given it a type.

use std::collections::BTreeMap;

use toml::de::DeValue;

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// An environment variable, which has no type of its own.
    Variable(String),
    Text(String),
    /// Digits, without separators, and their base.
    Integer(String, u32),
    Boolean(bool),
    Array(Vec<Value>),
    Table(BTreeMap<String, Value>),
    Float(f64),
    /// What no key takes: a date.
    Other(&'static str),
}

impl Value {
    pub(super) fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(integer) => {
                Self::Integer(integer.as_str().replace('_', ""), integer.radix())
            }
            DeValue::Boolean(value) => Self::Boolean(*value),
            DeValue::Array(values) => {
                Self::Array(values.iter().map(|it| Self::of(it.get_ref())).collect())
            }
            DeValue::Table(table) => {
                let entries = table.iter();
                let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                    let key: &std::borrow::Cow<'_, str> = key.get_ref();
                    (key.to_string(), Self::of(value.get_ref()))
                };
                Self::Table(entries.map(entry).collect())
            }
            DeValue::Float(float) => float
                .as_str()
                .replace('_', "")
                .parse()
                .map_or(Self::Other("a float"), Self::Float),
            DeValue::Datetime(_) => Self::Other("a date"),
        }
    }

    /// The text of a string or a variable.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Variable(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What was found instead of what a key takes.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Variable(text) | Self::Text(text) => format!("{text:?}"),
            Self::Integer(digits, _) => format!("the number {digits}"),
            Self::Float(float) => format!("the number {float}"),
            Self::Boolean(value) => value.to_string(),
            Self::Array(_) => "an array".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}
