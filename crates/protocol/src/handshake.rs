//! The JSON bodies of handshake packets.
//!
//! The client opens with a [`Request`], the server answers with a [`Reply`], the client
//! acknowledges with an empty packet. Decoding is tolerant: a field of the wrong type counts as
//! missing.
//!
//! ```
//! use std::time::Duration;
//! use nano::handshake::Reply;
//!
//! let reply = Reply::accepted().with_heartbeat(Duration::from_secs(60)).with_servertime(1_795_198_612);
//! assert_eq!(reply.encode(), br#"{"code":200,"sys":{"heartbeat":60,"servertime":1795198612}}"#);
//! assert_eq!(Reply::decode(&reply.encode())?, reply);
//! # Ok::<(), nano::handshake::HandshakeError>(())
//! ```

use std::{collections::HashMap, error, fmt, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    message::{Dictionary, MAX_ROUTE},
    resume::{Ask, Grant},
};

mod json;

use self::json::read_object;
pub(crate) use self::json::{object, text, to_json};

/// The code of a reply that accepts the client.
pub const OK: u16 = 200;

/// The code of a refusal by the application.
pub const REFUSED: u16 = 500;

/// The code of a refusal because of the client's version.
pub const OLD_CLIENT: u16 = 501;

/// The field of [`Sys`] by which a client says that it knows the error bit.
const ERROR_FLAG: &str = "errorFlag";

/// The field of `sys` that is about resume, in both directions.
const RESUME: &str = "resume";

/// The last key of `sys` in a reply, in Go's order; its value follows.
const SERVERTIME: &str = r#""servertime":"#;

/// A longer heartbeat interval counts as none, which also keeps sums of times from overflowing.
const MAX_HEARTBEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// The body of a client's handshake packet.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The client library.
    pub sys: Sys,
    /// A value from application to application; null if there is none.
    pub user: Value,
    /// Why a part of the body was dropped; `None` if all of it was read.
    pub unread: Option<String>,
}

/// The part of a [`Request`] that the client library fills in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sys {
    /// Kind of the client, for example `js-websocket`; field `type` on the wire.
    pub kind: String,
    /// Version of the client.
    pub version: String,
    /// All other fields.
    pub others: Map<String, Value>,
}

impl Sys {
    /// Creates the description of a client library.
    pub fn new(kind: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            version: version.into(),
            others: Map::new(),
        }
    }

    /// Says that the client knows the error bit of responses, as field `errorFlag`.
    #[must_use]
    pub fn with_error_flag(mut self) -> Self {
        self.others.insert(ERROR_FLAG.to_owned(), true.into());
        self
    }

    /// Whether the client knows the error bit of responses.
    ///
    /// Clients of this project say so. Pitaya's clients know the bit too; they are recognised
    /// by the fields `platform` and `libVersion`. Clients of the pomelo family do not: libpomelo and
    /// libpomelo2 end the connection when they see the bit.
    pub fn knows_error_flag(&self) -> bool {
        let is_text = |field| self.others.get(field).is_some_and(Value::is_string);
        match self.others.get(ERROR_FLAG) {
            Some(known) => known == &Value::Bool(true),
            None => is_text("platform") && is_text("libVersion"),
        }
    }
}

impl Request {
    /// Creates a request of this client library, with a value for the application.
    pub fn new(sys: Sys, user: Value) -> Self {
        Self {
            sys,
            user,
            unread: None,
        }
    }

    /// Asks for a session that can be resumed, or for one back: sets `sys.resume`.
    #[must_use]
    pub fn with_resume(mut self, ask: &Ask) -> Self {
        self.sys.others.insert(RESUME.into(), ask.encode());
        self
    }

    /// What the client asks for in `sys.resume`; `None` if it does not resume sessions.
    pub fn resume(&self) -> Option<Ask> {
        Ask::decode(self.sys.others.get(RESUME)?)
    }

    /// Encodes the body of a client's handshake packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut sys = self.sys.others.clone();
        sys.insert("type".into(), self.sys.kind.clone().into());
        sys.insert("version".into(), self.sys.version.clone().into());
        let mut request = json!({ "sys": sys });
        if !self.user.is_null() {
            request["user"] = self.user.clone();
        }
        to_json(&request).into_bytes()
    }

    /// Decodes the body of a client's handshake packet.
    ///
    /// Clients may send anything here. Invalid UTF-8 and halves of surrogate pairs become U+FFFD. A
    /// field that cannot be read, such as a `user` nested too deeply, is dropped alone; of a body
    /// that is no JSON object nothing is read.
    pub fn decode(body: &[u8]) -> Self {
        let (mut fields, unread) = match read_object(body) {
            Ok(fields) => fields,
            Err(_) if body.is_empty() => return Self::default(),
            Err(error) => (Map::new(), Some(error.to_string())),
        };
        let user = fields.remove("user").unwrap_or_default();
        let sys = match fields.remove("sys") {
            Some(Value::Object(mut others)) => Sys {
                kind: text(others.remove("type")),
                version: text(others.remove("version")),
                others,
            },
            _ => Sys::default(),
        };
        Self { sys, user, unread }
    }
}

/// The body of a server's handshake packet: the client is accepted or refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reply {
    /// [`OK`], or why the client is refused: [`REFUSED`], [`OLD_CLIENT`] or any other. A refusal
    /// carries neither heartbeat, time nor dictionary.
    pub code: u16,
    /// Why the client is refused, as text.
    pub message: Option<String>,
    /// The heartbeat interval; `None` and zero mean no heartbeats. In seconds on the wire.
    pub heartbeat: Option<Duration>,
    /// The server's clock, in Unix seconds.
    pub servertime: i64,
    /// The routes with codes.
    pub dictionary: Dictionary,
    /// How the session can be resumed; `None` if it cannot.
    pub resume: Option<Grant>,
    /// A value from application to application.
    pub user: Option<Value>,
}

impl Default for Reply {
    /// As [`Reply::accepted`].
    fn default() -> Self {
        Self {
            code: OK,
            message: None,
            heartbeat: None,
            servertime: 0,
            dictionary: Dictionary::default(),
            resume: None,
            user: None,
        }
    }
}

impl Reply {
    /// Creates a reply that accepts the client, without heartbeats, dictionary or user value, at
    /// time 0.
    pub fn accepted() -> Self {
        Self::default()
    }

    /// Sets the heartbeat interval.
    #[must_use]
    pub fn with_heartbeat(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.heartbeat = interval.into();
        self
    }

    /// Sets the server's clock, in Unix seconds.
    #[must_use]
    pub fn with_servertime(mut self, seconds: i64) -> Self {
        self.servertime = seconds;
        self
    }

    /// Sets the routes with codes.
    #[must_use]
    pub fn with_dictionary(mut self, dictionary: Dictionary) -> Self {
        self.dictionary = dictionary;
        self
    }

    /// Sets how the session can be resumed.
    #[must_use]
    pub fn with_resume(mut self, grant: impl Into<Option<Grant>>) -> Self {
        self.resume = grant.into();
        self
    }

    /// Sets the value for the client's application.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<Option<Value>>) -> Self {
        self.user = user.into();
        self
    }

    /// Creates a reply that refuses the client.
    pub fn refusal(code: u16, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
            ..Self::default()
        }
    }

    /// Encodes the body of a server's handshake packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut reply = format!(r#"{{"code":{}"#, self.code);
        if let Some(message) = &self.message {
            reply.push_str(r#","msg":"#);
            reply.push_str(&to_json(&message.as_str().into()));
        }
        if self.code == OK {
            reply.push_str(&sys(self.heartbeat, &self.dictionary));
            if let Some(grant) = &self.resume {
                insert_grant(&mut reply, grant);
            }
            return finish(&reply, Some(self.servertime), self.user.as_ref());
        }
        finish(&reply, None, self.user.as_ref())
    }

    /// Decodes the body of a server's handshake packet.
    ///
    /// A heartbeat under a nanosecond or over a day counts as none; any other is taken as it is,
    /// however short. A missing time is 0. The dictionary omits what no message could use: a route
    /// that is empty, over 255 bytes or has two codes, and a code that is not a 16-bit number or
    /// stands for two routes.
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`].
    pub fn decode(body: &[u8]) -> Result<Self, HandshakeError> {
        let mut reply: Value = serde_json::from_slice(body).map_err(HandshakeError::Json)?;
        let code = reply["code"]
            .as_u64()
            .and_then(|code| code.try_into().ok())
            .ok_or(HandshakeError::Code)?;
        let message = reply["msg"].as_str().map(Into::into);
        let user = reply.get_mut("user").map(Value::take);
        if code != OK {
            return Ok(Self {
                code,
                message,
                user,
                ..Self::default()
            });
        }

        let sys = &reply["sys"];
        Ok(Self {
            code,
            message,
            heartbeat: sys["heartbeat"].as_f64().and_then(interval),
            servertime: whole(&sys["servertime"]),
            dictionary: dictionary(&sys["dict"]),
            resume: Grant::decode(&sys[RESUME]),
            user,
        })
    }
}

/// Accepting replies, encoded once up to what differs between clients.
#[derive(Clone, Debug)]
pub struct ReplyTemplate {
    head: String,
}

impl ReplyTemplate {
    /// Creates a template of replies with this heartbeat and dictionary.
    pub fn new(heartbeat: Option<Duration>, dictionary: &Dictionary) -> Self {
        Self {
            head: format!(r#"{{"code":{OK}{}"#, sys(heartbeat, dictionary)),
        }
    }

    /// Encodes a handshake body with this time in Unix seconds and user value. The bytes are those
    /// of [`Reply::encode`].
    pub fn encode(&self, servertime: i64, user: Option<&Value>) -> Vec<u8> {
        finish(&self.head, Some(servertime), user)
    }

    /// As [`encode`](ReplyTemplate::encode), for a session that can be resumed.
    pub fn encode_resumable(
        &self,
        servertime: i64,
        user: Option<&Value>,
        grant: &Grant,
    ) -> Vec<u8> {
        let mut head = self.head.clone();
        insert_grant(&mut head, grant);
        finish(&head, Some(servertime), user)
    }
}

/// A handshake body that is not a reply.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It is not JSON.
    Json(serde_json::Error),
    /// It has no numeric code.
    Code,
}

impl error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Code => None,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(_) => f.write_str("the handshake reply is not JSON"),
            Self::Code => f.write_str("the handshake reply has no code"),
        }
    }
}

/// Encodes a reply from `sys` up to the value of `servertime`, the last key in Go's order.
fn sys(heartbeat: Option<Duration>, dictionary: &Dictionary) -> String {
    let mut sys = String::from(r#","sys":{"#);
    if !dictionary.is_empty() {
        let entries: Vec<_> = dictionary
            .iter()
            .map(|(route, code)| format!("{}:{code}", to_json(&route[..].into())))
            .collect();
        sys.push_str(&format!(r#""dict":{{{}}},"#, entries.join(",")));
    }
    if let Some(heartbeat) = heartbeat.filter(|heartbeat| !heartbeat.is_zero()) {
        sys.push_str(&format!(r#""heartbeat":{},"#, seconds(heartbeat)));
    }
    sys.push_str(SERVERTIME);
    sys
}

/// Puts the grant into a reply that ends with the last key of `sys`.
fn insert_grant(reply: &mut String, grant: &Grant) {
    let at = reply.len() - SERVERTIME.len();
    reply.insert_str(at, &format!("\"{RESUME}\":{},", to_json(&grant.encode())));
}

fn finish(head: &str, servertime: Option<i64>, user: Option<&Value>) -> Vec<u8> {
    let mut reply = String::with_capacity(head.len() + 24);
    reply.push_str(head);
    if let Some(servertime) = servertime {
        reply.push_str(&format!("{servertime}}}"));
    }
    if let Some(user) = user {
        reply.push_str(r#","user":"#);
        reply.push_str(&to_json(user));
    }
    reply.push('}');
    reply.into_bytes()
}

/// Seconds as Go writes a float64.
fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1e-6 {
        format!("{seconds:e}")
    } else {
        seconds.to_string()
    }
}

fn interval(seconds: f64) -> Option<Duration> {
    let interval = Duration::try_from_secs_f64(seconds).ok()?;
    (!interval.is_zero() && interval <= MAX_HEARTBEAT).then_some(interval)
}

/// Go nano lets an application give one code to two routes. The code is then ambiguous, so both
/// routes are sent in full.
fn dictionary(routes: &Value) -> Dictionary {
    let entries: Vec<(&str, u16)> = routes
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(route, code)| Some((route.trim(), u16::try_from(code.as_u64()?).ok()?)))
        .collect();
    let (mut routes, mut codes) = (HashMap::new(), HashMap::new());
    for &(route, code) in &entries {
        *routes.entry(route).or_insert(0) += 1;
        *codes.entry(code).or_insert(0) += 1;
    }

    let usable = |route: &str| !route.is_empty() && route.len() <= MAX_ROUTE;
    let unique = entries
        .into_iter()
        .filter(|(route, code)| usable(route) && routes[route] == 1 && codes[code] == 1);
    // The filters left nothing that `new` refuses.
    Dictionary::new(unique).unwrap_or_default()
}

fn whole(number: &Value) -> i64 {
    number
        .as_i64()
        .or_else(|| number.as_f64().map(|number| number as i64))
        .unwrap_or_default()
}
