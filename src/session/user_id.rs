//! What a player is called: a number, as in Go nano, or a text.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tracing::Value;

use crate::error::{Error, Result, code};

/// The longest text, in bytes.
const MAX_TEXT: usize = 255;

/// The id of a user: a number of 1 or more, as in Go nano, or a text of 1 to 255 bytes.
///
/// The number 7 and the text `"7"` are two users. Cheap to clone. In JSON a user id is a number or a
/// string.
///
/// ```
/// use nano::UserId;
///
/// let (ann, ben) = (UserId::from(7), UserId::from("3f2c-a1"));
/// assert_eq!((ann.number(), ann.text()), (Some(7), None));
/// assert_eq!((ben.number(), ben.text()), (None, Some("3f2c-a1")));
/// assert_eq!(ben.to_string(), "3f2c-a1");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Kind);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Number(i64),
    Text(Arc<str>),
}

impl UserId {
    /// The number; `None` for a text.
    pub fn number(&self) -> Option<i64> {
        match &self.0 {
            Kind::Number(number) => Some(*number),
            Kind::Text(_) => None,
        }
    }

    /// The text; `None` for a number.
    pub fn text(&self) -> Option<&str> {
        match &self.0 {
            Kind::Number(_) => None,
            Kind::Text(text) => Some(text),
        }
    }

    /// Checks that a user can have this id.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for a number below 1, and for a text that is empty or over 255 bytes.
    pub fn check(&self) -> Result {
        let problem = match &self.0 {
            Kind::Number(1..) => return Ok(()),
            Kind::Number(number) => format!("illegal uid: {number}"),
            Kind::Text(text) if text.is_empty() => "illegal user id: an empty text".to_owned(),
            Kind::Text(text) if text.len() > MAX_TEXT => format!(
                "illegal user id: {} bytes, over the limit of {MAX_TEXT}",
                text.len()
            ),
            Kind::Text(_) => return Ok(()),
        };
        Err(Error::new(code::BAD_REQUEST, problem))
    }

    /// The number and the text as other nodes get them: 0 and nothing where there is none.
    pub(crate) fn parts(user: Option<&Self>) -> (i64, &str) {
        match user.map(|user| &user.0) {
            None => (0, ""),
            Some(Kind::Number(number)) => (*number, ""),
            Some(Kind::Text(text)) => (0, text),
        }
    }

    /// The user as another node names it. `None` for none, and for an id that is illegal.
    pub(crate) fn of_parts(number: i64, text: &str) -> Option<Self> {
        let user = match text {
            "" => Self::from(number),
            text => Self::from(text),
        };
        user.check().is_ok().then_some(user)
    }

    /// The user as the field `user` of log lines and spans: a number, or a quoted text.
    pub(crate) fn logged(&self) -> Box<dyn Value> {
        match &self.0 {
            Kind::Number(number) => Box::new(*number),
            Kind::Text(text) => Box::new(text.to_string()),
        }
    }
}

impl From<i64> for UserId {
    fn from(number: i64) -> Self {
        Self(Kind::Number(number))
    }
}

impl From<&str> for UserId {
    fn from(text: &str) -> Self {
        Self(Kind::Text(text.into()))
    }
}

impl From<String> for UserId {
    fn from(text: String) -> Self {
        Self(Kind::Text(text.into()))
    }
}

impl From<&String> for UserId {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Arc<str>> for UserId {
    fn from(text: Arc<str>) -> Self {
        Self(Kind::Text(text))
    }
}

impl From<&Self> for UserId {
    fn from(user: &Self) -> Self {
        user.clone()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Number(number) => number.fmt(f),
            Kind::Text(text) => text.fmt(f),
        }
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Number(number) => number.fmt(f),
            Kind::Text(text) => fmt::Debug::fmt(text, f),
        }
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Kind::Number(number) => serializer.serialize_i64(*number),
            Kind::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = UserId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a user id: a number or a string")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<UserId, E> {
                Ok(number.into())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<UserId, E> {
                let number = i64::try_from(number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))?;
                Ok(number.into())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<UserId, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_no_user_can_have_are_errors() {
        for legal in [
            UserId::from(1),
            UserId::from(i64::MAX),
            "x".into(),
            "ä".repeat(127).into(),
        ] {
            legal.check().unwrap();
            let (number, text) = UserId::parts(Some(&legal));
            assert_eq!(UserId::of_parts(number, text), Some(legal));
        }
        for illegal in [
            UserId::from(0),
            UserId::from(-1),
            "".into(),
            "x".repeat(256).into(),
        ] {
            assert_eq!(illegal.check().unwrap_err().code(), code::BAD_REQUEST);
            let (number, text) = UserId::parts(Some(&illegal));
            assert_eq!(UserId::of_parts(number, text), None, "{illegal:?}");
        }
    }

    #[test]
    fn json_has_a_number_or_a_string() {
        for (json, user) in [("7", UserId::from(7)), ("\"7\"", UserId::from("7"))] {
            assert_eq!(serde_json::from_str::<UserId>(json).unwrap(), user);
            assert_eq!(serde_json::to_string(&user).unwrap(), json);
        }
        for wrong in ["null", "true", "1.5", "18446744073709551615", "[]"] {
            serde_json::from_str::<UserId>(wrong).unwrap_err();
        }
    }
}
