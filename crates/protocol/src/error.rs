//! The error type: a code and a message for the client, a source for the log.

use std::{any::Any, borrow::Cow, collections::BTreeMap, error, fmt};

use bytes::Bytes;

mod body;
pub mod code;

use code::ErrorCode;

/// The result of handlers, hooks and most calls of this crate.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// An error with a code for the client.
///
/// `?` converts every [`std::error::Error`] into an error with the code [`code::INTERNAL`], whose
/// text is logged and not sent to clients, see [`message`](Error::message). Text is not an error in
/// Rust, so `option.ok_or("no such room")?` does not compile; the constructors say which code is
/// meant:
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
    pub fn code(&self) -> ErrorCode<'_> {
        ErrorCode::new(&self.0.code)
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
            code: Cow::Borrowed(self.code().as_str()),
            msg: Cow::Borrowed(self.message()),
            metadata: self.0.metadata.clone(),
        };
        body.encode()
    }

    /// Encodes the error as `nano.v1.Error`, the protobuf message of `proto/error.proto`.
    pub fn to_protobuf(&self) -> Bytes {
        let body = body::Protobuf {
            // An empty string is not written, and the first byte tells the forms apart.
            code: match &*self.0.code {
                "" => code::INTERNAL.into(),
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

/// What `?` converts into an [`Error`]: every [`std::error::Error`]. It is there for the words of the
/// compiler alone.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not convert into `nano::Error`",
    label = "no `std::error::Error`; `nano::Error::not_found(\"..\")` and the like make an error of text"
)]
pub trait ForeignError: error::Error + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<E: error::Error + Send + Sync + 'static> ForeignError for E {}

/// Any [`std::error::Error`] becomes [`code::INTERNAL`] with the error as its source; a [`StdError`]
/// becomes the [`Error`] it was made of.
impl<E: ForeignError> From<E> for Error {
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
///
/// ```
/// use nano::{Error, StdError};
///
/// fn load() -> Result<(), Box<dyn std::error::Error>> {
///     Err(Error::not_found("no such player"))?
/// }
/// let error = load().unwrap_err();
/// assert_eq!(error.downcast_ref::<StdError>().unwrap().get().code(), "NANO-404");
/// ```
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

/// As the text of [`Display`](fmt::Display), with the errors it comes from: this is what a `main` that
/// returns a `Result` prints, and a list of faults has a line for each. `{:#?}` shows the fields.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            fmt::Display::fmt(self, f)?;
            let source = self.0.source.as_deref();
            let mut cause = source.map(|source| source as &(dyn error::Error + 'static));
            while let Some(error) = cause {
                let text = error.to_string();
                // Most messages end with the text of their cause.
                if !self.0.message.contains(&text) {
                    write!(f, "\ncaused by: {text}")?;
                }
                cause = error.source();
            }
            return Ok(());
        }
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
mod tests;
