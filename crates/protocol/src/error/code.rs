//! The codes of this crate's own errors. An application's own are made with
//! [`ErrorCode::new`].
//!
//! ```
//! use nano::{Error, ErrorCode, code};
//!
//! const ROOM_FULL: ErrorCode<'static> = ErrorCode::new("ROOM-FULL");
//!
//! fn comes_again(error: &Error) -> bool {
//!     match error.code() {
//!         code::TIMEOUT | code::UNAVAILABLE | ROOM_FULL => true,
//!         _ => false,
//!     }
//! }
//! assert!(comes_again(&Error::new(ROOM_FULL, "eight players are in it")));
//! assert!(!comes_again(&Error::not_found("no such room")));
//! ```

use std::{borrow::Cow, fmt};

/// The code of an [`Error`](crate::Error): what programs compare, where the message is for people.
///
/// It is a short text, and can be any: the codes of [`code`](crate::code), or an application's own.
/// As a constant it is a pattern of `match`. It borrows from its error;
/// [`as_str`](ErrorCode::as_str) gives the text.
///
/// ```
/// use nano::{Error, ErrorCode, code};
///
/// const ROOM_FULL: ErrorCode<'static> = ErrorCode::new("ROOM-FULL");
///
/// fn advice(error: &Error) -> &'static str {
///     match error.code() {
///         ROOM_FULL => "try another room",
///         code::UNAVAILABLE => "try again",
///         _ => "give up",
///     }
/// }
/// assert_eq!(advice(&Error::new(ROOM_FULL, "8 of 8")), "try another room");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode<'a>(&'a str);

impl<'a> ErrorCode<'a> {
    /// Names a code, for a constant.
    pub const fn new(code: &'a str) -> Self {
        Self(code)
    }

    /// The text of the code, for example `NANO-404`.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for ErrorCode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// As the text alone.
impl fmt::Debug for ErrorCode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl PartialEq<str> for ErrorCode<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for ErrorCode<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<ErrorCode<'_>> for str {
    fn eq(&self, other: &ErrorCode<'_>) -> bool {
        self == other.0
    }
}

impl PartialEq<ErrorCode<'_>> for &str {
    fn eq(&self, other: &ErrorCode<'_>) -> bool {
        *self == other.0
    }
}

impl PartialEq<ErrorCode<'_>> for String {
    fn eq(&self, other: &ErrorCode<'_>) -> bool {
        self == other.0
    }
}

impl From<ErrorCode<'static>> for Cow<'static, str> {
    fn from(code: ErrorCode<'static>) -> Self {
        Cow::Borrowed(code.0)
    }
}

impl From<ErrorCode<'_>> for String {
    fn from(code: ErrorCode<'_>) -> Self {
        code.0.to_owned()
    }
}

/// The message cannot be understood: an undecodable body, an invalid route or argument.
pub const BAD_REQUEST: ErrorCode<'static> = ErrorCode::new("NANO-400");
/// The session has no user, and did not get one in time.
pub const UNAUTHENTICATED: ErrorCode<'static> = ErrorCode::new("NANO-401");
/// Refused on purpose, for example a node without the cluster's token. Clients get it from
/// applications only.
pub const FORBIDDEN: ErrorCode<'static> = ErrorCode::new("NANO-403");
/// No such route, session or member.
pub const NOT_FOUND: ErrorCode<'static> = ErrorCode::new("NANO-404");
/// No response in time.
pub const TIMEOUT: ErrorCode<'static> = ErrorCode::new("NANO-408");
/// It exists already, or the request has its response already.
pub const CONFLICT: ErrorCode<'static> = ErrorCode::new("NANO-409");
/// The session, group or connection is closed.
pub const CLOSED: ErrorCode<'static> = ErrorCode::new("NANO-410");
/// Too large for the wire or for a configured limit.
pub const TOO_LARGE: ErrorCode<'static> = ErrorCode::new("NANO-413");
/// A limit is reached: requests in flight, tasks in a queue.
pub const TOO_MANY: ErrorCode<'static> = ErrorCode::new("NANO-429");
/// A handler failed or panicked. Every foreign error that `?` converts has this code.
pub const INTERNAL: ErrorCode<'static> = ErrorCode::new("NANO-500");
/// The other side does not offer this.
pub const UNSUPPORTED: ErrorCode<'static> = ErrorCode::new("NANO-501");
/// A scheduler, node or connection that is needed is missing or stopping.
pub const UNAVAILABLE: ErrorCode<'static> = ErrorCode::new("NANO-503");
