//! A part of a whole.

use super::{setting::Setting, value::Value};

/// From 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio(pub(super) f64);

impl Setting for Ratio {
    fn expected() -> String {
        "a number from 0 to 1".to_owned()
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let number = match value {
            Value::Float(number) => Some(*number),
            Value::Integer(digits, 10) => digits.parse().ok(),
            Value::Variable(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| (0.0..=1.0).contains(number));
        self.0 = number.ok_or_else(|| {
            format!(
                "expected {}, found {}",
                Self::expected(),
                value.description()
            )
        })?;
        Ok(())
    }

    fn write(&self) -> Option<String> {
        Some(format!("{:?}", self.0))
    }
}
