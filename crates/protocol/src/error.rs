//! The error type: a code and a message for the client, a source for the log.

use std::{any::Any, borrow::Cow, collections::BTreeMap, error, fmt};

use bytes::Bytes;

mod body;

/// The result of handlers, hooks and most calls of this crate.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// The codes of this crate's own errors. Applications choose theirs with [`Error::new`].
pub mod code {
    /// The message cannot be understood: an undecodable body, an invalid route or argument.
    pub const BAD_REQUEST: &str = "NANO-400";
    /// The session has no user, and did not get one in time.
    pub const UNAUTHENTICATED: &str = "NANO-401";
    /// Refused on purpose, for example a node without the cluster's token. Clients get it from
    /// applications only.
    pub const FORBIDDEN: &str = "NANO-403";
    /// No such route, session or member.
    pub const NOT_FOUND: &str = "NANO-404";
    /// No response in time.
    pub const TIMEOUT: &str = "NANO-408";
    /// It exists already, or the request has its response already.
    pub const CONFLICT: &str = "NANO-409";
    /// The session, group or connection is closed.
    pub const CLOSED: &str = "NANO-410";
    /// Too large for the wire or for a configured limit.
    pub const TOO_LARGE: &str = "NANO-413";
    /// A limit is reached: requests in flight, tasks in a queue.
    pub const TOO_MANY: &str = "NANO-429";
    /// A handler failed or panicked. Every foreign error that `?` converts has this code.
    pub const INTERNAL: &str = "NANO-500";
    /// The other side does not offer this.
    pub const UNSUPPORTED: &str = "NANO-501";
    /// A scheduler, node or connection that is needed is missing or stopping.
    pub const UNAVAILABLE: &str = "NANO-503";
}

/// An error with a code for the client.
///
/// `?` converts every [`std::error::Error`] into an error with the code [`code::INTERNAL`], whose
/// text is logged and not sent to clients, see [`message`](Error::message). Text is not an error in Rust, so `option.ok_or("no such room")?` does not compile; the constructors say
/// which code is meant:
///
/// ```
/// use nano::{Error, Result};
///
/// fn room(rooms: &[&'static str], index: usize) -> Result<&'static str> {
///     rooms.get(index).copied().ok_or_else(|| Error::not_found("no such room"))
/// }
/// assert_eq!(room(&[], 1).unwrap_err().code(), "NANO-404");
/// ```
///
/// To choose code, message and metadata for a type of your own, implement
/// `From<YourError> for nano::Error` (for a type that is not itself a `std::error::Error`), or name
/// it as the error type of your handlers:
///
/// ```
/// enum RoomError { Full { limit: usize } }
///
/// impl From<RoomError> for nano::Error {
///     fn from(error: RoomError) -> Self {
///         match error {
///             RoomError::Full { limit } => nano::Error::new("ROOM-FULL", "the room is full").with_metadata("limit", limit.to_string()),
///         }
///     }
/// }
/// ```
///
/// A client receives the body `{"code": .., "msg": .., "metadata": {..}}`, without an empty metadata:
/// as JSON, or from a component in [`Protobuf`](crate::Protobuf) as the message of
/// `proto/error.proto`. The source stays on the server.
///
/// In the other direction `?` converts this type into `Box<dyn std::error::Error>` and, with the
/// feature `anyhow` (default), into `anyhow::Error`. The conversion goes through [`StdError`],
/// because a type with a blanket `From<E: std::error::Error>` cannot be a `std::error::Error`
/// itself; converting back returns the same error.
///
/// ```
/// fn parse(text: &str) -> nano::Result<u16> {
///     Ok(text.parse()?)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     assert_eq!(parse("7")?, 7);
///     Ok(())
/// }
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    metadata: BTreeMap<String, String>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
    /// The message is the text of a foreign error, which clients do not get.
    hidden: bool,
    /// The body of the error reply, once it is fixed.
    body: Option<Bytes>,
}

/// What clients read instead of the text of a foreign error.
const HIDDEN: &str = "internal error";

impl Error {
    /// Creates an error. A handler that returns it sends code and message to the client.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code: code.into(),
            message: message.into(),
            metadata: BTreeMap::new(),
            source: None,
            hidden: false,
            body: None,
        }))
    }

    /// Adds one entry of metadata, sent to the client.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.into(), value.into());
        self
    }

    /// Adds the cause, for logs and hooks. It is never sent to the client.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Replaces the code.
    #[must_use]
    pub fn recode(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.code = code.into();
        self
    }

    /// The code, for example `NANO-404`.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The message that a client gets.
    ///
    /// For an error that `?` converted from a foreign type it is `internal error`, until
    /// [`expose`](Error::expose) is called: the text of a database or a file system may name
    /// tables and paths. `Display` always shows the whole text, for logs.
    pub fn message(&self) -> &str {
        if self.0.hidden {
            HIDDEN
        } else {
            &self.0.message
        }
    }

    /// Lets clients read the text of a foreign error, instead of `internal error`.
    #[must_use]
    pub fn expose(mut self) -> Self {
        self.0.hidden = false;
        self
    }

    /// The metadata, ordered by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// The cause, if there is one.
    pub fn source(&self) -> Option<&(dyn error::Error + Send + Sync + 'static)> {
        self.0.source.as_deref()
    }

    /// The cause, if it is a `T`. An error hook finds the application's own type behind a `?` with
    /// it.
    pub fn source_as<T: error::Error + 'static>(&self) -> Option<&T> {
        self.0
            .source
            .as_deref()
            .and_then(|source| source.downcast_ref())
    }

    /// Fixes the body of the error reply that a client gets, in whatever form its protocol has.
    ///
    /// An error hook can give all errors of a game the form that its clients read. Without this, the
    /// [format](crate::Serializer::encode_error) of the component decides.
    ///
    /// ```
    /// let error = nano::Error::not_found("no such room").with_body(&b"E404"[..]);
    /// assert_eq!(error.to_body(), "E404");
    /// assert_eq!(error.code(), "NANO-404");
    /// ```
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.0.body = Some(body.into());
        self
    }

    /// Lets a format encode the body, unless it is [fixed](Error::with_body) or the format leaves it
    /// at JSON.
    #[doc(hidden)]
    #[must_use]
    pub fn encoded_by(self, encode: fn(&Self) -> Option<Bytes>) -> Self {
        match &self.0.body {
            Some(_) => self,
            None => match encode(&self) {
                Some(body) => self.with_body(body),
                None => self,
            },
        }
    }

    /// Undoes [`with_body`](Error::with_body).
    #[doc(hidden)]
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.0.body = None;
        self
    }

    /// The body of an error reply: the one that is [fixed](Error::with_body), else
    /// [JSON](Error::to_json).
    pub fn to_body(&self) -> Bytes {
        self.0.body.clone().unwrap_or_else(|| self.to_json())
    }

    /// Encodes the error as a JSON object.
    pub fn to_json(&self) -> Bytes {
        let body = body::Json {
            code: Cow::Borrowed(self.code()),
            msg: Cow::Borrowed(self.message()),
            metadata: self.0.metadata.clone(),
        };
        body.encode()
    }

    /// Encodes the error as `nano.v1.Error`, the protobuf message of `proto/error.proto`.
    pub fn to_protobuf(&self) -> Bytes {
        let body = body::Protobuf {
            // An empty string is not written, and the first byte tells the forms apart.
            code: match self.code() {
                "" => code::INTERNAL.to_owned(),
                code => code.to_owned(),
            },
            msg: self.message().to_owned(),
            metadata: self.0.metadata.clone(),
        };
        prost::Message::encode_to_vec(&body).into()
    }

    /// Decodes the body of an error reply, in JSON or protobuf. A body of another form becomes the
    /// message of an [`code::INTERNAL`] error.
    pub fn from_body(body: &[u8]) -> Self {
        match body::decode(body) {
            Some(body) => {
                let mut error = Self::new(body.code, body.msg);
                error.0.metadata = body.metadata;
                error
            }
            None => Self::new(code::INTERNAL, String::from_utf8_lossy(body).into_owned()),
        }
    }
}

macro_rules! constructors {
    ($($name:ident => $code:ident,)*) => {
        impl Error {
            $(
                #[doc = concat!("Creates an error with the code [`code::", stringify!($code), "`].")]
                pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
                    Self::new(code::$code, message)
                }
            )*
        }
    };
}
constructors! {
    bad_request => BAD_REQUEST,
    forbidden => FORBIDDEN,
    not_found => NOT_FOUND,
    conflict => CONFLICT,
    too_many => TOO_MANY,
    internal => INTERNAL,
    unsupported => UNSUPPORTED,
    unavailable => UNAVAILABLE,
}

/// Any error becomes [`code::INTERNAL`] with the error as its source; a [`StdError`] becomes the
/// [`Error`] it was made of.
impl<E: error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(source: E) -> Self {
        let mut source = Some(source);
        if let Some(wrapped) = (&mut source as &mut dyn Any).downcast_mut::<Option<StdError>>()
            && let Some(StdError(error)) = wrapped.take()
        {
            return error;
        }
        let message = source.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut error = Self::new(code::INTERNAL, message);
        error.0.source = source.map(|source| Box::new(source) as _);
        error.0.hidden = true;
        error
    }
}

/// An [`Error`] as a [`std::error::Error`], for APIs that ask for one.
///
/// `downcast_ref::<StdError>()` finds it in an `anyhow::Error` or a `Box<dyn Error>`.
pub struct StdError(Error);

impl StdError {
    /// The error inside.
    pub fn get(&self) -> &Error {
        &self.0
    }

    /// Returns the error inside.
    pub fn into_inner(self) -> Error {
        self.0
    }
}

impl From<Error> for StdError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl error::Error for StdError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.0.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for StdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for StdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<Error> for Box<dyn error::Error + Send + Sync> {
    fn from(error: Error) -> Self {
        Box::new(StdError(error))
    }
}

impl From<Error> for Box<dyn error::Error> {
    fn from(error: Error) -> Self {
        Box::new(StdError(error))
    }
}

#[cfg(feature = "anyhow")]
impl From<Error> for anyhow::Error {
    fn from(error: Error) -> Self {
        Self::new(StdError(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            code,
            message,
            metadata,
            source,
            hidden: _,
            body: _,
        } = &*self.0;
        let mut debug = f.debug_struct("Error");
        debug.field("code", code).field("message", message);
        if !metadata.is_empty() {
            debug.field("metadata", metadata);
        }
        if let Some(source) = source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing() -> Result {
        Err(Error::conflict("taken").with_source(fmt::Error))
    }

    #[test]
    fn it_becomes_a_boxed_error_and_back_without_loss() {
        fn boxed() -> Result<(), Box<dyn error::Error + Send + Sync>> {
            Ok(failing()?)
        }
        fn local() -> Result<(), Box<dyn error::Error>> {
            failing()?;
            Ok(())
        }
        assert_eq!(local().unwrap_err().to_string(), "NANO-409: taken");
        let error = boxed().unwrap_err();
        assert!(
            error
                .source()
                .is_some_and(|source| source.is::<fmt::Error>())
        );
        let back = Error::from(*error.downcast::<StdError>().unwrap());
        assert_eq!((back.code(), back.message()), (code::CONFLICT, "taken"));
        assert!(back.source_as::<fmt::Error>().is_some());
    }

    #[cfg(feature = "anyhow")]
    #[test]
    fn it_goes_into_anyhow_with_its_source() {
        fn main() -> anyhow::Result<()> {
            failing()?;
            Ok(())
        }
        let error = main().unwrap_err();
        assert_eq!(format!("{error:#}").split(": ").next(), Some("NANO-409"));
        assert_eq!(
            error.downcast_ref::<StdError>().unwrap().get().code(),
            code::CONFLICT
        );
        assert_eq!(error.chain().count(), 2);
    }

    #[test]
    fn a_body_is_read_in_both_forms_and_any_other_is_the_text_of_an_internal_error() {
        let error = Error::not_found("no room").with_metadata("room", "7");
        let json = br#"{"code":"NANO-404","msg":"no room","metadata":{"room":"7"}}"#;
        let protobuf = b"\x0a\x08NANO-404\x12\x07no room\x1a\x09\x0a\x04room\x12\x017";
        assert_eq!(error.to_body(), &json[..]);
        assert_eq!(error.to_protobuf(), &protobuf[..]);
        for body in [&json[..], &protobuf[..]] {
            let read = Error::from_body(body);
            assert_eq!((read.code(), read.message()), ("NANO-404", "no room"));
            assert_eq!(read.metadata(), error.metadata());
        }
        for other in ["", "\n", "\n{}", "\x0a\x00", "[]", "\x0a\x7fcut"] {
            let read = Error::from_body(other.as_bytes());
            assert_eq!((read.code(), read.message()), (code::INTERNAL, other));
        }
        assert_eq!(
            Error::from_body(&Error::new("", "x").to_protobuf()).code(),
            code::INTERNAL
        );
    }

    #[test]
    fn a_fixed_body_stays_and_formats_encode_the_others() {
        let protobuf = |error: &Error| Some(error.to_protobuf());
        let fixed = Error::conflict("taken").with_body("mine");
        assert_eq!(fixed.encoded_by(protobuf).to_body(), "mine");
        let error = Error::conflict("taken").encoded_by(protobuf);
        assert_eq!(error.to_body(), error.to_protobuf());
        assert_eq!(Error::conflict("x").encoded_by(|_| None).to_body()[0], b'{');
    }

    #[test]
    fn a_foreign_error_is_internal_and_kept_as_the_source() {
        let error = Error::from(fmt::Error);
        assert_eq!(error.code(), code::INTERNAL);
        assert!(error.source().is_some() && error.source_as::<fmt::Error>().is_some());
    }
}
