//! The route dictionary: short codes for long routes, sent to the client in the handshake.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    error, fmt,
};

use bytestring::ByteString;

/// The longest route the wire can carry, in bytes.
pub const MAX_ROUTE: usize = 0xFF;

/// Routes and their codes on the wire. Share one in an `Arc`.
///
/// ```
/// use nano::message::Dictionary;
///
/// let dictionary = Dictionary::new([("Room.Join", 1), ("onMessage", 2)])?;
/// assert_eq!(dictionary.code("onMessage"), Some(2));
/// assert_eq!(dictionary.route(1).map(|route| &route[..]), Some("Room.Join"));
/// # Ok::<(), nano::message::DictionaryError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dictionary {
    codes: BTreeMap<ByteString, u16>,
    routes: BTreeMap<u16, ByteString>,
}

impl Dictionary {
    /// Creates a dictionary of these routes and codes. White space around a route is removed.
    ///
    /// # Errors
    ///
    /// A route that is empty or over 255 bytes, or a route or code that occurs twice.
    pub fn new(
        entries: impl IntoIterator<Item = (impl Into<ByteString>, u16)>,
    ) -> Result<Self, DictionaryError> {
        let mut dictionary = Self::default();
        for (route, code) in entries {
            dictionary.insert(trimmed(route), code)?;
        }
        Ok(dictionary)
    }

    /// Creates a dictionary that gives these routes the codes 1, 2, .. in bytewise order. White
    /// space around a route is removed.
    ///
    /// # Errors
    ///
    /// A route that is empty, over 255 bytes or occurs twice, or more than 65535 routes.
    pub fn from_routes(
        routes: impl IntoIterator<Item = impl Into<ByteString>>,
    ) -> Result<Self, DictionaryError> {
        let mut routes: Vec<ByteString> = routes.into_iter().map(trimmed).collect();
        routes.sort_unstable();
        if routes.len() > usize::from(u16::MAX) {
            return Err(DictionaryError::TooManyRoutes(routes.len()));
        }
        Self::new(routes.into_iter().zip(1..=u16::MAX))
    }

    /// The route that `code` stands for.
    #[inline]
    pub fn route(&self, code: u16) -> Option<&ByteString> {
        self.routes.get(&code)
    }

    /// The code that stands for `route`.
    #[inline]
    pub fn code(&self, route: &str) -> Option<u16> {
        self.codes.get(route).copied()
    }

    /// All routes and their codes, in bytewise order of the routes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ByteString, u16)> {
        self.codes.iter().map(|(route, &code)| (route, code))
    }

    /// The number of routes.
    #[inline]
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether there are no routes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    fn insert(&mut self, route: ByteString, code: u16) -> Result<(), DictionaryError> {
        if route.is_empty() {
            return Err(DictionaryError::EmptyRoute { code });
        }
        if route.len() > MAX_ROUTE {
            return Err(DictionaryError::RouteTooLong { route });
        }
        let Entry::Vacant(vacant) = self.codes.entry(route.clone()) else {
            return Err(DictionaryError::DuplicateRoute { route });
        };
        if let Some(first) = self.routes.get(&code) {
            return Err(DictionaryError::DuplicateCode {
                code,
                routes: [first.clone(), route],
            });
        }
        vacant.insert(code);
        self.routes.insert(code, route);
        Ok(())
    }
}

fn trimmed(route: impl Into<ByteString>) -> ByteString {
    let route = route.into();
    route.slice_ref(route.trim())
}

/// Routes and codes that are not a dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DictionaryError {
    /// A code was given to the empty route.
    EmptyRoute {
        /// The code.
        code: u16,
    },
    /// A route is over 255 bytes.
    RouteTooLong {
        /// The route.
        route: ByteString,
    },
    /// A route occurs twice.
    DuplicateRoute {
        /// The route.
        route: ByteString,
    },
    /// Two routes have one code.
    DuplicateCode {
        /// The code.
        code: u16,
        /// The routes, in the order they were given.
        routes: [ByteString; 2],
    },
    /// There are more routes than codes.
    TooManyRoutes(usize),
}

impl error::Error for DictionaryError {}

impl fmt::Display for DictionaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyRoute { code } => write!(f, "the route with code {code} is empty"),
            Self::RouteTooLong { route } => {
                write!(f, "the route {route:?} is over {MAX_ROUTE} bytes")
            }
            Self::DuplicateRoute { route } => {
                write!(f, "the route {route:?} is in the dictionary twice")
            }
            Self::DuplicateCode {
                code,
                routes: [first, second],
            } => write!(
                f,
                "the routes {first:?} and {second:?} share the code {code}"
            ),
            Self::TooManyRoutes(count) => write!(
                f,
                "{count} routes, but a dictionary holds at most {}",
                u16::MAX
            ),
        }
    }
}
