//! Addresses that clients connect to.

use std::{fmt, net, path::PathBuf, sync::Arc};

use axum::{Router, http::request::Parts};
use parking_lot::Mutex;
#[cfg(feature = "tls")]
use tokio_rustls::rustls::ServerConfig;

use super::{
    bound_listener::{BoundListener, BoundSocket, cannot_listen},
    connection_options::{ConnectionOptions, WebSocketOptions},
    pages::{Pages, merge},
};
use crate::{
    error::{Error, Result},
    net::{
        address::HostPort,
        bind,
        network::{Network, NetworkSet},
        tls::{ServerTls, TlsFiles},
        transport::{Acceptor, DynAcceptor},
    },
};

/// An address that clients connect to: TCP or WebSocket, with or without TLS.
///
/// A node may have any number of listeners of any kind.
///
/// ```
/// use nano::{App, Listener};
///
/// let app = App::new()
///     .listen(Listener::tcp("0.0.0.0:3250"))
///     .listen(Listener::websocket("0.0.0.0:443", "/nano").tls("chain.pem", "key.pem"));
/// # let _ = app;
/// ```
#[derive(Clone)]
pub struct Listener {
    source: Source,
    name: Option<String>,
    tls: Option<Tls>,
    client_authorities: Option<PathBuf>,
    proxies: Option<NetworkSet>,
    websocket: Option<WebSocketOptions>,
    pages: Vec<Pages>,
}

/// Where the socket comes from.
#[derive(Clone)]
enum Source {
    Address(String),
    Socket(Arc<net::TcpListener>),
    /// Taken by the first node that binds the listener.
    Custom(Arc<Mutex<Option<Box<dyn DynAcceptor>>>>),
}

#[derive(Clone)]
enum Tls {
    /// Certificate chain and private key.
    Files(PathBuf, PathBuf),
    #[cfg(feature = "tls")]
    Config(Arc<ServerConfig>),
}

impl Listener {
    /// Listens for TCP at an address such as `0.0.0.0:3250`; with port 0 the system chooses one.
    ///
    /// `:3250` and `[::]:3250` are all addresses of the machine, IPv4 and IPv6. A name is listened on
    /// in both families, if it has both, on one port. IPv6 addresses are written in brackets.
    /// Players' addresses are canonical: one who comes by IPv4 has an IPv4 address on every listener.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self::new(Source::Address(address.into()))
    }

    /// Accepts TCP clients from a socket that listens already: from systemd, from a test, or bound
    /// before privileges are dropped. Clients that connect before the node starts wait in
    /// the listen backlog.
    ///
    /// Turn one of Tokio's into this type with its `into_std`. The node closes the socket when it
    /// shuts down.
    ///
    /// ```
    /// use nano::{App, Listener};
    ///
    /// let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let address = socket.local_addr()?;
    /// let app = App::new().listen(Listener::tcp_from(socket));
    /// # let _ = (app, address);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tcp_from(socket: net::TcpListener) -> Self {
        Self::new(Source::Socket(Arc::new(socket)))
    }

    /// Listens for WebSocket at an address and a path such as `/nano`; the leading slash may be
    /// left out. Other paths answer 404 unless [`http`](Listener::http) or
    /// [`files`](Listener::files) serve them.
    pub fn websocket(address: impl Into<String>, path: &str) -> Self {
        Self::tcp(address).with_websocket(path)
    }

    /// Accepts WebSocket clients from a socket that listens already; otherwise as
    /// [`tcp_from`](Listener::tcp_from) and [`websocket`](Listener::websocket).
    pub fn websocket_from(socket: net::TcpListener, path: &str) -> Self {
        Self::tcp_from(socket).with_websocket(path)
    }

    /// Accepts clients by a transport of the application's own; see
    /// [`transport`](crate::transport).
    ///
    /// It brings its own encryption, so that [`tls`](Listener::tls) and
    /// [`proxy_protocol`](Listener::proxy_protocol) are errors at the start. A clone of this listener
    /// can be given to one node only.
    pub fn custom(acceptor: impl Acceptor) -> Self {
        let acceptor: Box<dyn DynAcceptor> = Box::new(acceptor);
        Self::new(Source::Custom(Arc::new(Mutex::new(Some(acceptor)))))
    }

    /// Names the listener, for checks of handshakes: [`Handshake::listener`](crate::Handshake::listener).
    /// Its address as it was given, unless set.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            name: None,
            tls: None,
            client_authorities: None,
            proxies: None,
            websocket: None,
            pages: Vec::new(),
        }
    }

    fn with_websocket(mut self, path: &str) -> Self {
        self.websocket = Some(WebSocketOptions {
            path: format!("/{}", path.trim_start_matches('/')),
            check_origin: None,
            forwarders: None,
            subprotocols: Vec::new(),
            http: Router::new(),
        });
        self
    }

    /// Encrypts with TLS 1.2 and 1.3, with a certificate chain and its private key from PEM files.
    /// The files are read when the node starts, which fails if they are missing or invalid, and again
    /// when they have changed, within a minute; see
    /// [`Handle::reload_certificates`](crate::Handle::reload_certificates).
    #[must_use]
    pub fn tls(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls = Some(Tls::Files(certificate.into(), key.into()));
        self
    }

    /// Asks TLS clients for a certificate of one of the authorities in this PEM file, and refuses
    /// those without. Read and reloaded as the files of [`tls`](Listener::tls), which it needs.
    ///
    /// What a client has shown is in [`ClientCertificates`](crate::ClientCertificates).
    #[must_use]
    pub fn client_authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.client_authorities = Some(file.into());
        self
    }

    /// Expects a header of the PROXY protocol, version 1 or 2, from the proxies in these networks:
    /// the address in it is the client's. Before TLS and HTTP.
    ///
    /// A trusted proxy that sends no header within
    /// [`Timeouts::handshake`](crate::Timeouts::handshake), or something else, is disconnected. A
    /// header of a health check (LOCAL) or without an address leaves the proxy's own. From all other
    /// addresses no header is expected: clients may connect beside the proxy, and cannot pretend.
    ///
    /// ```
    /// use nano::{Error, Listener};
    ///
    /// let listener = Listener::tcp(":3250").proxy_protocol(["10.0.0.0/8".parse()?]);
    /// # let _ = listener;
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn proxy_protocol(mut self, trusted: impl IntoIterator<Item = Network>) -> Self {
        self.proxies = Some(trusted.into_iter().collect());
        self
    }

    /// Takes the address of a WebSocket's client from the header `Forwarded` or `X-Forwarded-For`
    /// of requests that come from these networks. No effect on TCP.
    ///
    /// Each proxy appends the address it was called from, so the client is the last address that is
    /// in none of these networks; what stands before it may be invented. Its port is 0: it is unknown.
    /// Without the header, or with `unknown`, the address is the proxy's. A request with both headers
    /// that do not agree is refused (400): a proxy passes on the one that it does not write as the
    /// client has sent it, and should remove it. Headers from any other address are ignored.
    #[must_use]
    pub fn forwarded_for(mut self, trusted: impl IntoIterator<Item = Network>) -> Self {
        if let Some(websocket) = &mut self.websocket {
            websocket.forwarders = Some(trusted.into_iter().collect());
        }
        self
    }

    /// Encrypts with a configuration of [`rustls`](crate::rustls): for a certificate per host name,
    /// or for client certificates that are optional.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    ///
    /// use nano::{App, Listener, rustls::{ServerConfig, server::ResolvesServerCert}};
    ///
    /// fn app(certificates: Arc<dyn ResolvesServerCert>) -> App {
    ///     let config = ServerConfig::builder()
    ///         .with_no_client_auth()
    ///         .with_cert_resolver(certificates);
    ///     App::new().listen(Listener::tcp("0.0.0.0:3250").tls_config(config))
    /// }
    /// ```
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls_config(mut self, config: impl Into<Arc<ServerConfig>>) -> Self {
        self.tls = Some(Tls::Config(config.into()));
        self
    }

    /// Checks the request that opens a WebSocket, such as its `Origin`; refused requests get 403. By
    /// default all are accepted. No effect on TCP. It runs on the network's threads and must not
    /// block.
    #[must_use]
    pub fn check_origin(mut self, check: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        if let Some(websocket) = &mut self.websocket {
            websocket.check_origin = Some(Arc::new(check));
        }
        self
    }

    /// Names the WebSocket subprotocols of the listener, the preferred one first. The response names
    /// the first that the client offers. By default there are none, as in Go nano, and browsers that
    /// offer some refuse the connection. No effect on TCP.
    ///
    /// Browsers cannot set headers of a WebSocket; many applications pass a token as a second
    /// subprotocol, which stays unnamed in the response.
    ///
    /// ```
    /// use nano::{App, Listener};
    ///
    /// // In the browser: new WebSocket(url, ["nano", token])
    /// let listener = Listener::websocket("0.0.0.0:3250", "/nano").subprotocols(["nano"]);
    /// let app = App::new().listen(listener);
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        if let Some(websocket) = &mut self.websocket {
            websocket.subprotocols = names.into_iter().map(Into::into).collect();
        }
        self
    }

    /// Serves HTTP beside the WebSocket with an [`axum`] router, which cannot upgrade connections
    /// itself. Routes that overlap with others of this listener fail the start, and so do routes of a
    /// listener without a WebSocket. Its handlers run on the network's threads and must not block.
    #[must_use]
    pub fn http(mut self, router: Router) -> Self {
        self.pages.push(Pages::Router(router));
        self
    }

    /// Serves the files of a directory under a path such as `/web`, with `index.html` for
    /// directories. It must exist when the node starts. Overlaps and TCP as with
    /// [`http`](Listener::http).
    #[must_use]
    pub fn files(mut self, path: &str, directory: impl Into<PathBuf>) -> Self {
        self.pages.push(Pages::Files(
            path.trim_matches('/').to_owned(),
            directory.into(),
        ));
        self
    }

    /// Checks the options and binds the address without listening, so that early clients are
    /// refused instead of waiting.
    pub(super) async fn bind(mut self) -> Result<BoundListener> {
        let tls = match (self.tls, self.client_authorities) {
            (Some(Tls::Files(certificate, key)), client_authorities) => {
                Some(ServerTls::from_files(TlsFiles {
                    certificate,
                    key,
                    client_authorities,
                })?)
            }
            (_, Some(file)) => {
                return Err(Error::bad_request(format!(
                    "the authorities of clients in {} need Listener::tls",
                    file.display()
                )));
            }
            #[cfg(feature = "tls")]
            (Some(Tls::Config(config)), None) => Some(ServerTls::new(config)),
            (None, None) => None,
        };
        let address = self.source.to_string();
        if let Some(websocket) = &mut self.websocket {
            websocket.http = merge(&address, self.pages)?;
        } else if !self.pages.is_empty() {
            return Err(Error::bad_request(format!(
                "HTTP routes of {address}: a listener without a WebSocket serves none"
            )));
        }
        let failed = |error| cannot_listen(&address, error);
        let socket =
            match self.source {
                Source::Address(address) => {
                    let parsed: HostPort = address
                        .parse()
                        .map_err(|error| Error::bad_request(format!("cannot listen: {error}")))?;
                    BoundSocket::Bound(bind::bind(&parsed).await.map_err(failed)?)
                }
                Source::Socket(socket) => {
                    // Another clone of the listener keeps the socket open: both accept then.
                    let socket = Arc::try_unwrap(socket).or_else(|socket| socket.try_clone());
                    BoundSocket::Listening(socket.map_err(failed)?)
                }
                Source::Custom(acceptor) => {
                    if tls.is_some() || self.proxies.is_some() {
                        return Err(Error::bad_request(
                            "a custom transport takes neither TLS nor the PROXY protocol",
                        ));
                    }
                    let acceptor = acceptor.lock().take();
                    BoundSocket::Custom(acceptor.ok_or_else(|| {
                        Error::bad_request("a custom transport has a node already")
                    })?)
                }
            };
        Ok(BoundListener {
            socket,
            options: ConnectionOptions {
                name: self.name.unwrap_or_else(|| address.clone()).into(),
                tls,
                proxies: self.proxies,
                websocket: self.websocket,
            },
            address,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => f.write_str(address),
            Self::Socket(socket) => match socket.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => f.write_str("a given socket"),
            },
            Self::Custom(_) => f.write_str("a custom transport"),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.websocket.as_ref().map(|websocket| &websocket.path);
        f.debug_struct("Listener")
            .field("address", &self.source.to_string())
            .field("websocket", &path)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}
