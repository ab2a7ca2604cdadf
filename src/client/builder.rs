//! What a client may choose about its connection.

use std::{fmt, marker::PhantomData, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    Client, Subscription, address::Address, connection::Connection, dial, link::Link, opening,
    push::Listeners,
};
use crate::{
    error::{Error, Result, code},
    handshake::{Request, Sys},
    packet::{self, Decoder},
    serialize::{Json, Serializer},
};

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
///     .on("onNews", |body| println!("{body:?}"))
///     .connect("wss://127.0.0.1:3250/nano")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder connects when `connect` is called"]
pub struct Builder<S: Serializer = Json> {
    user: Value,
    ca_file: Option<PathBuf>,
    server_name: Option<String>,
    request_timeout: Option<Duration>,
    connect_timeout: Duration,
    max_packet: usize,
    listeners: Arc<Listeners>,
    format: PhantomData<fn() -> S>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            user: Value::Null,
            ca_file: None,
            server_name: None,
            request_timeout: Some(Duration::from_secs(30)),
            connect_timeout: Duration::from_secs(10),
            max_packet: packet::MAX_BODY,
            listeners: Arc::default(),
            format: PhantomData,
        }
    }
}

impl<S: Serializer> Builder<S> {
    /// Writes and reads messages in another format; JSON unless called.
    pub fn typed<T: Serializer>(self) -> Builder<T> {
        let Self {
            user,
            ca_file,
            server_name,
            request_timeout,
            connect_timeout,
            max_packet,
            listeners,
            format: _,
        } = self;
        Builder {
            user,
            ca_file,
            server_name,
            request_timeout,
            connect_timeout,
            max_packet,
            listeners,
            format: PhantomData,
        }
    }

    /// What the application's handshake hook on the server gets to see.
    pub fn handshake_user(mut self, user: impl Into<Value>) -> Self {
        self.user = user.into();
        self
    }

    /// Trusts the certificates in this PEM file, instead of those the system trusts. Matters for
    /// `tls:` and `wss:` only.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// The name that the server's certificate must have; the host of the address unless called.
    /// Matters for `tls:` and `wss:` only.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// How long a request waits for its answer: 30 s unless called, for ever with `None`.
    pub fn request_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.request_timeout = limit.into();
        self
    }

    /// How long connecting may take, from the look-up of the name to the handshake's reply: 10 s
    /// unless called.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// The longest packet body the server may send, in bytes: 16 MiB - 1 unless called, which is
    /// also the most that the wire can carry. A longer one closes the connection with
    /// [`CloseReason::Protocol`](super::CloseReason::Protocol).
    pub fn max_packet(mut self, bytes: usize) -> Self {
        self.max_packet = bytes.min(packet::MAX_BODY);
        self
    }

    /// [`Client::on`] from before the first push.
    pub fn on(
        self,
        route: impl Into<String>,
        callback: impl Fn(Bytes) + Send + Sync + 'static,
    ) -> Self {
        self.listeners.on(route.into(), callback);
        self
    }

    /// [`Client::subscribe`] from before the first push.
    pub fn subscribe(&mut self, route: impl Into<String>) -> Subscription<S> {
        Listeners::subscribe(&self.listeners, route.into())
    }

    /// Connects: `tcp://host:port`, `tls://host:port`, `ws://host[:port]/path`,
    /// `wss://host[:port]/path`. Done when the server has let this client in.
    ///
    /// # Errors
    /// - [`code::BAD_REQUEST`] for an address of another form, an unusable certificate file, or an
    ///   answer that is not of the protocol.
    /// - [`code::UNAVAILABLE`] when the server cannot be reached, or TLS or the WebSocket upgrade
    ///   fails.
    /// - [`code::CLOSED`] when the server closes the connection instead of answering the handshake.
    /// - [`code::TIMEOUT`] after [`connect_timeout`](Builder::connect_timeout).
    /// - The code and the message of a server that refuses the handshake; the code is a number, for
    ///   example `501`.
    ///
    /// # Panics
    /// Outside of a Tokio runtime with I/O and time enabled.
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
        let mut transport =
            dial::dial(&address, self.ca_file, self.server_name, self.max_packet).await?;
        let sys = Sys {
            kind: "rust".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Sys::default()
        };
        let request = Request {
            sys,
            user: self.user,
        };
        let mut decoder = Decoder::new(self.max_packet);
        let reply = opening::shake_hands(&mut transport, &mut decoder, &request).await?;

        let link = Arc::new(Link::new(reply, self.listeners));
        let client = Client::new(link.clone(), self.request_timeout);
        tokio::spawn(Connection::new(transport, decoder, link)?.run());
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
