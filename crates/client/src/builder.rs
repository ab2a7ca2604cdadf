//! Options of a connection.

use std::{fmt, marker::PhantomData, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::time::timeout;

use nano_protocol::{
    Error, Json, Result, Serializer, code,
    handshake::{Request, Sys},
    packet,
    resume::Ask,
};

use crate::{
    address::Address,
    client::Client,
    connection::Connection,
    dial::Upgrade,
    reconnect::{Dialer, Event, OnEvent, Resumption},
    shared::Shared,
    subscription::{Listeners, Pushes, Subscription},
};

impl Client {
    /// Connects with the default options of [`Client::builder`].
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().connect(url).await
    }

    /// Checks the form of an address, without a connection.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for an address that [`Builder::connect`] does not understand.
    pub fn check_url(url: &str) -> Result {
        url.parse::<Address>().map(drop)
    }

    /// Returns the options of a connection, and a place for listeners that must not miss the first
    /// push.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// Options for a connection; made by [`Client::builder`].
///
/// ```no_run
/// use std::time::Duration;
/// use nano::{Protobuf, client::Client};
/// use serde_json::json;
///
/// # async fn example() -> nano::Result {
/// let client = Client::builder()
///     .typed::<Protobuf>()
///     .handshake_user(json!({ "token": "secret" }))
///     .request_timeout(Duration::from_secs(5))
///     .ca_file("ca.pem")
///     .on("onAnnounce", |body| println!("{body:?}"))
///     .connect("wss://127.0.0.1:3250/nano")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder connects when `connect` is called"]
pub struct Builder<S: Serializer = Json> {
    user: Value,
    traceparent: Option<String>,
    tracestate: Option<String>,
    ca_file: Option<PathBuf>,
    server_name: Option<String>,
    upgrade: Upgrade,
    request_timeout: Option<Duration>,
    connect_timeout: Duration,
    max_packet: usize,
    resume: bool,
    on_event: Option<OnEvent>,
    listeners: Arc<Listeners>,
    format: PhantomData<fn() -> S>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            user: Value::Null,
            traceparent: None,
            tracestate: None,
            ca_file: None,
            server_name: None,
            upgrade: Upgrade::default(),
            request_timeout: Some(Duration::from_secs(30)),
            connect_timeout: Duration::from_secs(10),
            max_packet: packet::MAX_BODY,
            resume: false,
            on_event: None,
            listeners: Arc::default(),
            format: PhantomData,
        }
    }
}

impl<S: Serializer> Builder<S> {
    /// Encodes and decodes messages in the format `T`. Default: JSON.
    pub fn typed<T: Serializer>(self) -> Builder<T> {
        let Self {
            user,
            traceparent,
            tracestate,
            ca_file,
            server_name,
            upgrade,
            request_timeout,
            connect_timeout,
            max_packet,
            resume,
            on_event,
            listeners,
            format: _,
        } = self;
        Builder {
            user,
            traceparent,
            tracestate,
            ca_file,
            server_name,
            upgrade,
            request_timeout,
            connect_timeout,
            max_packet,
            resume,
            on_event,
            listeners,
            format: PhantomData,
        }
    }

    /// Sends this value to the application's handshake hook on the server. Default: nothing.
    pub fn handshake_user(mut self, user: impl Into<Value>) -> Self {
        self.user = user.into();
        self
    }

    /// Makes the client's messages part of this trace: a `traceparent` of W3C Trace Context. Default:
    /// none.
    ///
    /// It is the parent of all messages, also after a return. Whether they are traced is decided by the
    /// gate; one that is not valid is ignored there.
    ///
    /// ```
    /// use nano::client::Client;
    ///
    /// let builder = Client::builder()
    ///     .traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    ///     .tracestate("vendor=1");
    /// # let _ = builder;
    /// ```
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// Sends this `tracestate` with the [`traceparent`](Builder::traceparent). Default: none.
    pub fn tracestate(mut self, tracestate: impl Into<String>) -> Self {
        self.tracestate = Some(tracestate.into());
        self
    }

    /// Trusts the certificates in this PEM file instead of the system's. For `tls://` and `wss://`
    /// only.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Expects this name in the server's certificate. Default: the host of the address. For
    /// `tls://` and `wss://` only.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Adds a header to the request that opens the WebSocket: a token, a cookie. `Host` replaces that
    /// of the address. For `ws://` and `wss://` only.
    ///
    /// Sent again at each return of a client that [resumes](Builder::resume) its session. A header
    /// that the upgrade itself sets, such as `Upgrade`, is an error of [`connect`](Builder::connect).
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.upgrade.headers.push((name.into(), value.into()));
        self
    }

    /// Offers this subprotocol of the WebSocket, behind earlier ones. For `ws://` and `wss://` only.
    ///
    /// A server that chooses none of those offered is refused, as by browsers.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.upgrade.subprotocols.push(name.into());
        self
    }

    /// Fails a request without a response after this time. Default: 30 s; `None` waits for ever.
    pub fn request_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.request_timeout = limit.into();
        self
    }

    /// Limits connecting, from name resolution to the handshake reply. Default: 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Limits the packet bodies the server may send, in bytes. Default: 16 MiB - 1, the limit of
    /// the wire format. A longer one closes the connection with
    /// [`DisconnectReason::Protocol`](crate::DisconnectReason::Protocol).
    pub fn max_packet(mut self, bytes: usize) -> Self {
        self.max_packet = bytes.min(packet::MAX_BODY);
        self
    }

    /// Returns to the session by itself after a lost connection, if the server allows it. Default:
    /// false.
    ///
    /// Messages of both directions then arrive exactly once and in order, and requests in flight
    /// wait for the return, within their timeout. Attempts have growing, random pauses, and end
    /// after the server's window. [`on_event`](Builder::on_event) tells what happens. At a server
    /// that cannot resume sessions the client works as without this.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Calls `callback` when the connection of a client that [resumes](Builder::resume) its session
    /// is lost, and when it is back. It runs on the connection's task, so it must not block.
    ///
    /// ```no_run
    /// use nano::client::{Client, Event};
    ///
    /// # async fn example() -> nano::Result {
    /// let client = Client::builder()
    ///     .resume(true)
    ///     .on_event(|event| match event {
    ///         Event::Lost(reason) => println!("log in again: {reason}"),
    ///         event => println!("{event:?}"),
    ///     })
    ///     .connect("tcp://127.0.0.1:3250")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_event(mut self, callback: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(callback));
        self
    }

    /// Adds a callback as [`Client::on`] does, before the first push.
    pub fn on(
        self,
        route: impl Into<String>,
        callback: impl Fn(Bytes) + Send + Sync + 'static,
    ) -> Self {
        self.listeners.on(route.into(), callback);
        self
    }

    /// Subscribes to a route as [`Client::subscribe`] does, before the first push.
    pub fn subscribe(&mut self, route: impl Into<String>) -> Subscription<S> {
        self.listeners.subscribe(route.into())
    }

    /// Receives the pushes of all routes as [`Client::pushes`] does, from the first one on.
    pub fn pushes(&mut self) -> Pushes<S> {
        self.listeners.pushes()
    }

    /// Connects to `tcp://host:port`, `tls://host:port`, `ws://host[:port]/path` or
    /// `wss://host[:port]/path`, and completes when the server has accepted the handshake.
    ///
    /// # Errors
    /// - [`code::BAD_REQUEST`] for an address of another form, an unusable certificate file, an
    ///   invalid header or subprotocol, or an invalid handshake reply.
    /// - [`code::UNAVAILABLE`] when the server cannot be reached, or TLS or the WebSocket upgrade
    ///   fails.
    /// - [`code::CLOSED`] when the server closes the connection during the handshake.
    /// - [`code::TIMEOUT`] after [`connect_timeout`](Builder::connect_timeout).
    /// - [`code::UNSUPPORTED`] for `tls://` and `wss://` without the feature `tls`.
    /// - The server's code and message when it refuses the handshake; the code is a number, for
    ///   example `501`.
    ///
    /// # Panics
    /// Outside a Tokio runtime with I/O and time enabled.
    pub async fn connect(self, url: &str) -> Result<Client<S>> {
        let connect_timeout = self.connect_timeout;
        timeout(connect_timeout, self.open(url))
            .await
            .unwrap_or_else(|_| {
                Err(Error::new(
                    code::TIMEOUT,
                    format!("{url}: no connection within {connect_timeout:?}"),
                ))
            })
    }

    async fn open(self, url: &str) -> Result<Client<S>> {
        let address: Address = url.parse()?;
        let mut sys = Sys::new("rust", env!("CARGO_PKG_VERSION")).with_error_flag();
        let trace = [
            ("traceparent", self.traceparent),
            ("tracestate", self.tracestate),
        ];
        let trace = trace
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.into())));
        sys.others.extend(trace);
        let dialer = Dialer {
            address,
            ca_file: self.ca_file,
            server_name: self.server_name,
            upgrade: self.upgrade,
            max_packet: self.max_packet,
            request: Request::new(sys, self.user),
        };
        let opened = dialer.open(self.resume.then_some(&Ask::Open)).await?;
        let grant = opened.reply.resume.clone().filter(|_| self.resume);
        let resumption =
            grant.map(|grant| Resumption::new(dialer, self.connect_timeout, self.on_event, &grant));
        let shared = Arc::new(Shared::new(opened.reply.clone(), self.listeners));
        let client = Client::new(shared.clone(), self.request_timeout);
        tokio::spawn(Connection::new(opened, shared, resumption)?.run());
        Ok(client)
    }
}

impl<S: Serializer> fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("ca_file", &self.ca_file)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}
