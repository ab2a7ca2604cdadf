//! Messages, the bodies of data packets: `flag (1 byte), id (varint), route, body`.
//!
//! The flag holds the kind, a bit for a route that is a code of the [`Dictionary`], and a bit for a
//! response that is an error reply. Requests and responses have an id; all kinds but responses have
//! a route. Both directions use the same form.
//!
//! ```
//! use bytes::BytesMut;
//! use nano::message::{Dictionary, Message};
//!
//! let dictionary = Dictionary::default();
//! let request = Message::request(1, "Echo.Echo", "b");
//! let mut out = BytesMut::new();
//! request.encode(&dictionary, &mut out)?;
//! assert_eq!(&out[..], b"\x00\x01\x09Echo.Echob");
//! assert_eq!(Message::decode(out.freeze(), &dictionary)?, request);
//! # Ok::<(), nano::message::MessageError>(())
//! ```

use std::{error, fmt};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

pub use dictionary::{Dictionary, DictionaryError, MAX_ROUTE};

mod dictionary;

const COMPRESSED: u8 = 0x01;
const ERROR: u8 = 0x20;

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// From a client; expects a response with the same id.
    Request = 0,
    /// From a client; has no response.
    Notify = 1,
    /// From the server, to the request with the same id.
    Response = 2,
    /// From the server, without a request.
    Push = 3,
}

impl Kind {
    #[inline]
    fn from_flag(flag: u8) -> Result<Self, MessageError> {
        match flag >> 1 & 0x07 {
            0 => Ok(Self::Request),
            1 => Ok(Self::Notify),
            2 => Ok(Self::Response),
            3 => Ok(Self::Push),
            kind => Err(MessageError::Kind(kind)),
        }
    }

    fn flag(self) -> u8 {
        (self as u8) << 1
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The kind.
    pub kind: Kind,
    /// The id of a request and of its response. For notifies and pushes it is 0 and not encoded.
    pub id: u64,
    /// The handler or event. For responses it is empty and not encoded.
    pub route: ByteString,
    /// The payload, in the format that both sides agree on.
    pub body: Bytes,
    /// Whether a response is an error reply. For other kinds it is `false` and not encoded.
    pub error: bool,
}

impl Message {
    /// Creates a request. The server treats id 0 as a notify.
    pub fn request(id: u64, route: impl Into<ByteString>, body: impl Into<Bytes>) -> Self {
        Self {
            kind: Kind::Request,
            id,
            route: route.into(),
            body: body.into(),
            error: false,
        }
    }

    /// Creates a notify.
    pub fn notify(route: impl Into<ByteString>, body: impl Into<Bytes>) -> Self {
        Self {
            kind: Kind::Notify,
            id: 0,
            route: route.into(),
            body: body.into(),
            error: false,
        }
    }

    /// Creates the response to the request with this id, an error reply if `error`.
    pub fn response(id: u64, error: bool, body: impl Into<Bytes>) -> Self {
        Self {
            kind: Kind::Response,
            id,
            route: ByteString::new(),
            body: body.into(),
            error,
        }
    }

    /// Creates a push.
    pub fn push(route: impl Into<ByteString>, body: impl Into<Bytes>) -> Self {
        Self {
            kind: Kind::Push,
            id: 0,
            route: route.into(),
            body: body.into(),
            error: false,
        }
    }

    /// Decodes `data`, the body of a data packet. Route and body are slices of it, so nothing is
    /// copied.
    ///
    /// Unknown bits of the flag and the bits of an id above the 64th are ignored.
    ///
    /// # Errors
    ///
    /// See [`MessageError`]. Once the id is read, only the route can be invalid.
    #[inline]
    pub fn decode(mut data: Bytes, dictionary: &Dictionary) -> Result<Self, MessageError> {
        let flag = data.try_get_u8().map_err(|_| MessageError::Empty)?;
        let kind = Kind::from_flag(flag)?;
        let id = match kind {
            Kind::Request | Kind::Response => take_id(&mut data).ok_or(MessageError::Id)?,
            Kind::Notify | Kind::Push => 0,
        };
        let route = match kind {
            Kind::Response => Ok(ByteString::new()),
            _ if flag & COMPRESSED != 0 => take_code(&mut data, dictionary),
            _ => take_route(&mut data),
        };
        let route = route.map_err(|fault| MessageError::Route { kind, id, fault })?;
        Ok(Self {
            kind,
            id,
            route,
            body: data,
            error: kind == Kind::Response && flag & ERROR != 0,
        })
    }

    /// Appends the message. A route that is in the dictionary is written as its code.
    ///
    /// # Errors
    ///
    /// [`MessageError::RouteTooLong`] if the route is over [`MAX_ROUTE`]; nothing is appended then.
    #[inline]
    pub fn encode(&self, dictionary: &Dictionary, out: &mut BytesMut) -> Result<(), MessageError> {
        match self.kind {
            Kind::Response => {
                encode_response(self.id, self.error, &self.body, out);
                Ok(())
            }
            Kind::Push => encode_push(&self.route, &self.body, dictionary, out),
            Kind::Request => encode_routed(
                Kind::Request,
                Some(self.id),
                &self.route,
                &self.body,
                dictionary,
                out,
            ),
            Kind::Notify => {
                encode_routed(Kind::Notify, None, &self.route, &self.body, dictionary, out)
            }
        }
    }
}

/// Appends a response, an error reply if `error`.
#[inline]
pub fn encode_response(id: u64, error: bool, body: &[u8], out: &mut BytesMut) {
    out.put_u8(Kind::Response.flag() | if error { ERROR } else { 0 });
    put_id(id, out);
    out.put_slice(body);
}

/// Appends a push. A route that is in the dictionary is written as its code.
///
/// # Errors
///
/// [`MessageError::RouteTooLong`] if the route is over [`MAX_ROUTE`]; nothing is appended then.
#[inline]
pub fn encode_push(
    route: &str,
    body: &[u8],
    dictionary: &Dictionary,
    out: &mut BytesMut,
) -> Result<(), MessageError> {
    encode_routed(Kind::Push, None, route, body, dictionary, out)
}

#[inline]
fn encode_routed(
    kind: Kind,
    id: Option<u64>,
    route: &str,
    body: &[u8],
    dictionary: &Dictionary,
    out: &mut BytesMut,
) -> Result<(), MessageError> {
    let len = u8::try_from(route.len()).map_err(|_| MessageError::RouteTooLong(route.len()))?;
    let code = dictionary.code(route);
    out.put_u8(kind.flag() | if code.is_some() { COMPRESSED } else { 0 });
    if let Some(id) = id {
        put_id(id, out);
    }
    match code {
        Some(code) => out.put_u16(code),
        None => {
            out.put_u8(len);
            out.put_slice(route.as_bytes());
        }
    }
    out.put_slice(body);
    Ok(())
}

/// Seven bits per byte, the lowest first; the high bit is set on all but the last byte.
#[inline]
fn put_id(mut id: u64, out: &mut BytesMut) {
    while id > 0x7F {
        out.put_u8(id as u8 | 0x80);
        id >>= 7;
    }
    out.put_u8(id as u8);
}

#[inline]
fn take_id(data: &mut Bytes) -> Option<u64> {
    let mut id = 0;
    for (index, &byte) in data.iter().enumerate() {
        // An id may be longer than needed; Go nano drops what does not fit into 64 bits.
        if index < 10 {
            id |= u64::from(byte & 0x7F) << (7 * index);
        }
        if byte < 0x80 {
            data.advance(index + 1);
            return Some(id);
        }
    }
    None
}

#[inline]
fn take_route(data: &mut Bytes) -> Result<ByteString, RouteFault> {
    let len = data.try_get_u8().map_err(|_| RouteFault::Missing)?.into();
    if len > data.len() {
        return Err(RouteFault::Truncated);
    }
    ByteString::try_from(data.split_to(len)).map_err(|_| RouteFault::NotUtf8)
}

#[inline]
fn take_code(data: &mut Bytes, dictionary: &Dictionary) -> Result<ByteString, RouteFault> {
    if data.is_empty() {
        return Err(RouteFault::Missing);
    }
    let code = data.try_get_u16().map_err(|_| RouteFault::Truncated)?;
    dictionary
        .route(code)
        .cloned()
        .ok_or(RouteFault::UnknownCode(code))
}

/// Bytes that are not a message, or a message that cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The data is empty.
    Empty,
    /// The flag has an unknown message kind.
    Kind(u8),
    /// The data ends inside the id.
    Id,
    /// The route is invalid. Kind and id are known, so a request can still get an error reply.
    Route {
        /// The kind of the message.
        kind: Kind,
        /// The id of the request; 0 for notifies and pushes.
        id: u64,
        /// The fault.
        fault: RouteFault,
    },
    /// A route to be encoded is over [`MAX_ROUTE`]; its length in bytes.
    RouteTooLong(usize),
}

/// Why the route of a message is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteFault {
    /// The data ends before it.
    Missing,
    /// The data ends inside it.
    Truncated,
    /// It is a code that is not in the dictionary.
    UnknownCode(u16),
    /// It is not UTF-8.
    NotUtf8,
}

impl error::Error for MessageError {}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty message"),
            Self::Kind(kind) => write!(f, "no message kind: {kind}"),
            Self::Id => f.write_str("the message ends inside its id"),
            Self::Route { fault, .. } => fault.fmt(f),
            Self::RouteTooLong(len) => {
                write!(f, "a route of {len} bytes, over the limit of {MAX_ROUTE}")
            }
        }
    }
}

impl fmt::Display for RouteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the message has no route"),
            Self::Truncated => f.write_str("the message ends inside its route"),
            Self::UnknownCode(code) => write!(f, "no route has the code {code}"),
            Self::NotUtf8 => f.write_str("the route is not UTF-8"),
        }
    }
}
