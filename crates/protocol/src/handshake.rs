//! The JSON bodies of handshake and kick packets.
//!
//! The client opens with a [`Request`], the server answers with a [`Reply`], the client
//! acknowledges with an empty packet. What the other side sends is read with tolerance: a field
//! that is missing or of another type counts as not there.
//!
//! ```
//! use std::time::Duration;
//! use nano::handshake::Reply;
//!
//! let reply = Reply { heartbeat: Some(Duration::from_secs(60)), servertime: 1_795_198_612, ..Reply::default() };
//! assert_eq!(reply.encode(), br#"{"code":200,"sys":{"heartbeat":60,"servertime":1795198612}}"#);
//! assert_eq!(Reply::decode(&reply.encode())?, reply);
//! # Ok::<(), nano::handshake::HandshakeError>(())
//! ```

use std::{collections::HashMap, error, fmt, time::Duration};

use serde_json::{Map, Value, json};

use crate::message::{Dictionary, MAX_ROUTE};

/// The code of a reply that lets the client in.
pub const OK: u16 = 200;

/// The code of a refusal by the application.
pub const REFUSED: u16 = 500;

/// The code of a refusal because of the client's version.
pub const OLD_CLIENT: u16 = 501;

/// A longer heartbeat interval says that there are no heartbeats; it also keeps sums of times from
/// overflowing.
const MAX_HEARTBEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a client says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// About the client library.
    pub sys: Sys,
    /// From the application, to the application; null if there is nothing.
    pub user: Value,
}

/// The part of a [`Request`] that the client library fills in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sys {
    /// Kind of the client, for example `js-websocket`; field `type` on the wire.
    pub kind: String,
    /// Version of the client.
    pub version: String,
    /// All other fields.
    pub others: Map<String, Value>,
}

impl Request {
    /// The body of a client's handshake packet.
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

    /// Reads the body of a client's handshake packet. Clients may send anything here, so a body
    /// that is not understood is an empty request.
    pub fn decode(body: &[u8]) -> Self {
        let mut request = object(body);
        let user = request.remove("user").unwrap_or_default();
        let Some(Value::Object(mut others)) = request.remove("sys") else {
            return Self {
                sys: Sys::default(),
                user,
            };
        };
        let sys = Sys {
            kind: text(others.remove("type")),
            version: text(others.remove("version")),
            others,
        };
        Self { sys, user }
    }
}

/// What the server answers: the client is let in, or why not.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// [`OK`], or why the client is refused: [`REFUSED`], [`OLD_CLIENT`] or any other. A refusal
    /// carries neither heartbeat, time nor dictionary.
    pub code: u16,
    /// Why the client is refused, in words.
    pub message: Option<String>,
    /// The interval of heartbeats; `None` (and zero) says that there are none. On the wire it is in
    /// seconds.
    pub heartbeat: Option<Duration>,
    /// The time at the server, in Unix seconds.
    pub servertime: i64,
    /// The routes that have codes.
    pub dictionary: Dictionary,
    /// From the application, to the application.
    pub user: Option<Value>,
}

impl Default for Reply {
    /// A reply that lets the client in and says nothing more; its time is 1970.
    fn default() -> Self {
        Self {
            code: OK,
            message: None,
            heartbeat: None,
            servertime: 0,
            dictionary: Dictionary::default(),
            user: None,
        }
    }
}

impl Reply {
    /// A reply that refuses the client.
    pub fn refusal(code: u16, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
            ..Self::default()
        }
    }

    /// The body of a server's handshake packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut reply = format!(r#"{{"code":{}"#, self.code);
        if let Some(message) = &self.message {
            reply.push_str(r#","msg":"#);
            reply.push_str(&to_json(&message.as_str().into()));
        }
        if self.code == OK {
            reply.push_str(&sys(self.heartbeat, &self.dictionary));
            return finish(&reply, Some(self.servertime), self.user.as_ref());
        }
        finish(&reply, None, self.user.as_ref())
    }

    /// Reads the body of a server's handshake packet.
    ///
    /// A heartbeat of less than a nanosecond or more than a day is none. Without a time it is 1970.
    /// The heartbeat is otherwise as the server said it, however short. Left out of the dictionary
    /// is what no message could use: a route that is empty, over 255 bytes or has two codes, a code
    /// that is no 16-bit number or stands for two routes.
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
            user,
        })
    }
}

/// Replies that let clients in, rendered once up to what differs between them.
#[derive(Clone, Debug)]
pub struct ReplyTemplate {
    head: String,
}

impl ReplyTemplate {
    /// A template of replies with this heartbeat and dictionary.
    pub fn new(heartbeat: Option<Duration>, dictionary: &Dictionary) -> Self {
        Self {
            head: format!(r#"{{"code":{OK}{}"#, sys(heartbeat, dictionary)),
        }
    }

    /// The body of a handshake packet that tells this time, in Unix seconds, and `user` if there is
    /// any. It is the same as [`Reply::encode`] makes.
    pub fn encode(&self, servertime: i64, user: Option<&Value>) -> Vec<u8> {
        finish(&self.head, Some(servertime), user)
    }
}

/// A handshake reply that is none.
#[derive(Debug)]
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

/// The body of a kick packet: why the server closes the connection.
pub fn encode_kick(reason: &str) -> Vec<u8> {
    to_json(&json!({ "reason": reason })).into_bytes()
}

/// The reason in the body of a kick packet. Of a body in another form it is the text; no body has
/// the empty reason.
pub fn decode_kick(body: &[u8]) -> String {
    match object(body).remove("reason") {
        Some(reason) => text(Some(reason)),
        None => String::from_utf8_lossy(body).into_owned(),
    }
}

/// All of a reply from its `sys` up to the value of `servertime`, which Go's order of keys puts
/// last.
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
    sys.push_str(r#""servertime":"#);
    sys
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

/// JSON as Go writes it, which is also safe inside of HTML. These characters occur in strings only.
fn to_json(value: &Value) -> String {
    let plain = value.to_string();
    let mut json = String::with_capacity(plain.len());
    for char in plain.chars() {
        match char {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                json.push_str(&format!("\\u{:04x}", u32::from(char)))
            }
            _ => json.push(char),
        }
    }
    json
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

/// Nano lets an application give one code to two routes. Neither can be told from the other, so
/// both are sent in full.
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
    // Nothing is left to be refused.
    Dictionary::new(unique).unwrap_or_default()
}

fn object(body: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(body).unwrap_or_default()
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn whole(number: &Value) -> i64 {
    number
        .as_i64()
        .or_else(|| number.as_f64().map(|number| number as i64))
        .unwrap_or_default()
}
