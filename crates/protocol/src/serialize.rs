//! Payload formats: JSON, Protobuf, raw bytes, and the traits of a format of your own.

use std::any::{Any, TypeId};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result, code};

mod go_json;

pub(crate) use go_json::repair;

/// A payload format: a marker for a type that implements [`Decode`] and [`Encode`] for the messages
/// it can carry.
///
/// ```
/// use bytes::Bytes;
/// use nano::{Decode, Encode, Result, Serializer};
///
/// struct Text;
///
/// impl Serializer for Text {}
/// impl Decode<String> for Text {
///     fn decode(payload: &Bytes) -> Result<String> {
///         Ok(String::from_utf8(payload.to_vec())?)
///     }
/// }
/// impl Encode<String> for Text {
///     fn encode(message: &String) -> Result<Bytes> {
///         Ok(Bytes::copy_from_slice(message.as_bytes()))
///     }
/// }
/// // For handlers that return no reply; those that take no message need `Decode<()>` likewise.
/// impl Encode<()> for Text {
///     fn encode(_: &()) -> Result<Bytes> {
///         Ok(Bytes::new())
///     }
/// }
/// ```
pub trait Serializer: Sized + Send + Sync + 'static {
    /// Encodes the body of an error reply. With `None`, the default, it is [JSON](Error::to_json).
    ///
    /// Called for errors of handlers of this format, and for messages to them that fail before.
    fn encode_error(error: &Error) -> Option<Bytes> {
        let _ = error;
        None
    }
}

/// A format that decodes an `M` from a payload.
#[diagnostic::on_unimplemented(
    message = "`{M}` cannot be read from a message of the format `{Self}`",
    label = "`{Self}` cannot decode `{M}`",
    note = "the format `Json` needs `#[derive(serde::Deserialize)]` on `{M}`, or on the types it is made of",
    note = "a message made by prost needs the format `Protobuf`: `impl Component<Protobuf>`, `Handlers<Self, Protobuf>`, `Session<Protobuf>`",
    note = "the format `Raw`, that of `Handlers::raw`, needs `bytes::Bytes`",
    note = "a format of your own needs `impl Decode<{M}>`, also where `{M}` is `()`"
)]
pub trait Decode<M>: Serializer {
    /// Decodes the message. An error answers the request with [`code::BAD_REQUEST`].
    fn decode(payload: &Bytes) -> Result<M>;
}

/// A format that encodes an `M` as a payload.
#[diagnostic::on_unimplemented(
    message = "`{M}` cannot be written as a message of the format `{Self}`",
    label = "`{Self}` cannot encode `{M}`",
    note = "the format `Json` needs `#[derive(serde::Serialize)]` on `{M}`, or on the types it is made of",
    note = "a message made by prost needs the format `Protobuf`: `impl Component<Protobuf>`, `Handlers<Self, Protobuf>`, `Session<Protobuf>`",
    note = "the format `Raw`, that of `Handlers::raw`, needs `bytes::Bytes`, `Vec<u8>`, `[u8]`, `String` or `str`",
    note = "a format of your own needs `impl Encode<{M}>`, also where `{M}` is `()`"
)]
pub trait Encode<M: ?Sized>: Serializer {
    /// Encodes the message at once, so it can be changed after the call.
    fn encode(message: &M) -> Result<Bytes>;
}

/// JSON through serde, written byte for byte as Go's `encoding/json` writes it: `<`, `>`, `&` escaped,
/// whole floats without fraction. A number that is not finite is an error. Maps are written in their
/// own order: `BTreeMap` has Go's, `HashMap` any.
///
/// Reading is as tolerant as Go's, for clients that were written for it:
///
/// - Keys match the names of fields whatever their case, and the last of several equal keys counts.
///   Not inside `#[serde(flatten)]` and untagged enums.
/// - A null leaves a field at its default, or at its zero value if it has no `serde(default)`.
/// - Bytes that are not UTF-8 and halves of escaped surrogate pairs become U+FFFD.
/// - An array is no struct.
///
/// Two things differ from Go. A missing field is an error unless it is an `Option` or has
/// `#[serde(default)]`. At most 127 arrays, objects and structs may be inside each other where a
/// message reads them.
///
/// ```
/// use nano::{Decode, Encode, Json};
///
/// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct Move { x: i32, y: i32 }
///
/// let bytes = Json::encode(&Move { x: 1, y: -1 })?;
/// assert_eq!(bytes, r#"{"x":1,"y":-1}"#);
/// // Keys in any case, as Go reads them.
/// let read: Move = Json::decode(&r#"{"X":1,"Y":-1}"#.into())?;
/// assert_eq!(read, Move { x: 1, y: -1 });
/// # Ok::<(), nano::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Serializer for Json {}

#[diagnostic::do_not_recommend]
impl<M: DeserializeOwned> Decode<M> for Json {
    fn decode(payload: &Bytes) -> Result<M> {
        go_json::from_slice(payload).map_err(|error| {
            Error::new(code::BAD_REQUEST, format!("invalid JSON: {error}")).with_source(error)
        })
    }
}

#[diagnostic::do_not_recommend]
impl<M: Serialize + ?Sized> Encode<M> for Json {
    fn encode(message: &M) -> Result<Bytes> {
        Ok(go_json::to_vec(message)?.into())
    }
}

/// Protocol Buffers through prost, the default format of Go nano.
///
/// ```
/// use nano::{Component, Handlers, Protobuf, Result, Session};
///
/// #[derive(nano::prost::Message)]
/// struct Move {
///     #[prost(sint32, tag = "1")]
///     x: i32,
/// }
///
/// struct Board;
///
/// impl Component<Protobuf> for Board {
///     fn handlers(h: Handlers<Self, Protobuf>) -> Handlers<Self, Protobuf> {
///         h.on("Move", |_: &Board, _: &Session<Protobuf>, to: Move| Ok::<Move, nano::Error>(to))
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Protobuf;

impl Serializer for Protobuf {
    /// The message of `proto/error.proto`.
    fn encode_error(error: &Error) -> Option<Bytes> {
        Some(error.to_protobuf())
    }
}

#[diagnostic::do_not_recommend]
impl<M: prost::Message + Default> Decode<M> for Protobuf {
    fn decode(payload: &Bytes) -> Result<M> {
        M::decode(payload.clone()).map_err(|error| {
            Error::new(code::BAD_REQUEST, format!("invalid protobuf: {error}")).with_source(error)
        })
    }
}

#[diagnostic::do_not_recommend]
impl<M: prost::Message> Encode<M> for Protobuf {
    fn encode(message: &M) -> Result<Bytes> {
        Ok(message.encode_to_vec().into())
    }
}

/// Bytes without any encoding.
///
/// ```
/// use nano::{Component, Handlers, Raw, Result, Session, bytes::Bytes};
///
/// struct Voice;
///
/// impl Component<Raw> for Voice {
///     fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
///         h.on("Packet", Self::packet)
///     }
/// }
///
/// impl Voice {
///     fn packet(&self, session: &Session<Raw>, samples: Bytes) -> Result {
///         session.push_raw("onVoice", samples)
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Raw;

impl Serializer for Raw {}

#[diagnostic::do_not_recommend]
impl Decode<Bytes> for Raw {
    fn decode(payload: &Bytes) -> Result<Bytes> {
        Ok(payload.clone())
    }
}

#[diagnostic::do_not_recommend]
impl Decode<()> for Raw {
    fn decode(_: &Bytes) -> Result<()> {
        Ok(())
    }
}

#[diagnostic::do_not_recommend]
impl Encode<Bytes> for Raw {
    fn encode(message: &Bytes) -> Result<Bytes> {
        Ok(message.clone())
    }
}

macro_rules! raw_encode {
    ($($message:ty),*) => {$(
        #[diagnostic::do_not_recommend]
        impl Encode<$message> for Raw {
            fn encode(message: &$message) -> Result<Bytes> {
                let bytes: &[u8] = message.as_ref();
                Ok(Bytes::copy_from_slice(bytes))
            }
        }
    )*};
}
raw_encode!([u8], &[u8], Vec<u8>, str, &str, String);

#[diagnostic::do_not_recommend]
impl Encode<()> for Raw {
    fn encode(_: &()) -> Result<Bytes> {
        Ok(Bytes::new())
    }
}

/// Decodes the argument of a handler or the reply to a request.
///
/// The type `()` takes any payload unread, so a request without a body reaches its handler in every
/// format.
///
/// # Errors
///
/// That of the format. A foreign error, which `?` gave the code [`code::INTERNAL`], becomes
/// [`code::BAD_REQUEST`]: the payload is at fault.
#[inline]
pub fn decode_message<F: Decode<M>, M: 'static>(payload: &Bytes) -> Result<M> {
    let mut nothing = Some(());
    if let Some(slot) = (&mut nothing as &mut dyn Any).downcast_mut::<Option<M>>()
        && let Some(unit) = slot.take()
    {
        return Ok(unit);
    }
    F::decode(payload).map_err(|error| {
        if error.code() == code::INTERNAL {
            // What is wrong with its own message is no secret to the client.
            error.expose().recode(code::BAD_REQUEST)
        } else {
            error
        }
    })
}

/// Encodes what a handler returned; `None` for `()`, which answers nothing by itself.
///
/// # Errors
///
/// That of the format.
#[inline]
pub fn encode_reply<F: Encode<R>, R: 'static>(reply: &R) -> Result<Option<Bytes>> {
    if TypeId::of::<R>() == TypeId::of::<()>() {
        return Ok(None);
    }
    F::encode(reply).map(Some)
}
