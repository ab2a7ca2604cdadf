//! One concrete error for users: a code and a message for the client, a source for the log.

use std::{borrow::Cow, collections::BTreeMap, error, fmt};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What handlers, hooks and most calls of this crate return.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// The codes this crate itself answers with. Applications choose their own through [`Error::new`].
pub mod code {
    /// The message cannot be understood: an undecodable body, an invalid route or argument.
    pub const BAD_REQUEST: &str = "NANO-400";
    /// ForwardError on purpose: a node without the cluster's token. Clients get it from applications
    /// only.
    pub const FORBIDDEN: &str = "NANO-403";
    /// No such route, session or member.
    pub const NOT_FOUND: &str = "NANO-404";
    /// Nobody answered in time.
    pub const TIMEOUT: &str = "NANO-408";
    /// It exists already, or was answered already.
    pub const CONFLICT: &str = "NANO-409";
    /// The session or group it concerns is closed.
    pub const CLOSED: &str = "NANO-410";
    /// Too large for the wire or for a configured limit.
    pub const TOO_LARGE: &str = "NANO-413";
    /// A limit was reached: requests in flight, tasks in a queue.
    pub const TOO_MANY: &str = "NANO-429";
    /// A handler failed or panicked; also the code of every foreign error that `?` converts.
    pub const INTERNAL: &str = "NANO-500";
    /// The other side does not offer this.
    pub const UNSUPPORTED: &str = "NANO-501";
    /// What would serve it is missing or going away: a scheduler, a node, a connection.
    pub const UNAVAILABLE: &str = "NANO-503";
}

/// An error with a code for the client.
///
/// `?` turns every [`std::error::Error`] into one with the code [`code::INTERNAL`]. To choose code,
/// message and metadata for a type of your own, implement `From<YourError> for nano::Error` (for a
/// type that is not itself a `std::error::Error`), or name it as the error type of your handlers:
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
/// A client reads it as the JSON body `{"code": .., "msg": .., "metadata": {..}}` (metadata only
/// where there is some). The source stays on the server.
pub struct Error(Box<Inner>);

struct Inner {
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    metadata: BTreeMap<String, String>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// The body of an error reply, as it stands on the wire.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow)]
    msg: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

impl Error {
    /// An error with a code and a message, both sent to the client when a handler returns it.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code: code.into(),
            message: message.into(),
            metadata: BTreeMap::new(),
            source: None,
        }))
    }

    /// Adds one entry of metadata, sent to the client.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.into(), value.into());
        self
    }

    /// Keeps what caused it, for logs and hooks; never sent to the client.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error under another code.
    #[must_use]
    pub fn recode(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.code = code.into();
        self
    }

    /// The code, for example `NANO-404`.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The metadata, ordered by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// What caused it, if it is a `T`: how an error hook finds the application's own type behind a
    /// `?`.
    pub fn source_as<T: error::Error + 'static>(&self) -> Option<&T> {
        self.0
            .source
            .as_deref()
            .and_then(|source| source.downcast_ref())
    }

    /// The error as the JSON body of an error reply.
    pub fn to_body(&self) -> Bytes {
        let body = Body {
            code: Cow::Borrowed(self.code()),
            msg: Cow::Borrowed(self.message()),
            metadata: self.0.metadata.clone(),
        };
        // Three strings always serialise; an empty body would still end the request.
        serde_json::to_vec(&body)
            .map(Bytes::from)
            .unwrap_or_default()
    }

    /// Reads the body of an error reply. A body of another form becomes the message of an
    /// [`code::INTERNAL`] error, so that nothing a server says is lost.
    pub fn from_body(body: &[u8]) -> Self {
        match serde_json::from_slice::<Body<'_>>(body) {
            Ok(body) => {
                let mut error = Self::new(body.code.into_owned(), body.msg.into_owned());
                error.0.metadata = body.metadata;
                error
            }
            Err(_) => Self::new(code::INTERNAL, String::from_utf8_lossy(body).into_owned()),
        }
    }
}

impl<E: error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(source: E) -> Self {
        Self::new(code::INTERNAL, source.to_string()).with_source(source)
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
