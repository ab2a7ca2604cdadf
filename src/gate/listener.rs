//! Where clients connect.

use std::{
    fmt, io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

use axum::{Router, http::request::Parts, response::Redirect, routing::get};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;
use tower_http::services::ServeDir;

use super::tls;
use crate::{
    error::{Error, Result, code},
    socket,
};

/// How many connections the system keeps waiting between two accepts.
const BACKLOG: u32 = 1024;

type CheckOrigin = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// One address for clients. A node may have any number, of any kind.
#[derive(Clone)]
pub struct Listener {
    address: String,
    tls: Option<(PathBuf, PathBuf)>,
    websocket: Option<WebSocketOptions>,
    pages: Vec<Pages>,
}

#[derive(Clone)]
pub(super) struct WebSocketOptions {
    pub(super) path: String,
    pub(super) check_origin: Option<CheckOrigin>,
    pub(super) http: Router,
}

/// What is served beside a WebSocket.
#[derive(Clone)]
enum Pages {
    Router(Router),
    Files(String, PathBuf),
}

impl Listener {
    /// Plain TCP at an address such as `0.0.0.0:3250`; port 0 lets the system choose.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: None,
            websocket: None,
            pages: Vec::new(),
        }
    }

    /// WebSocket at an address and a path such as `/nano`, of which the leading slash may be left
    /// out. Other paths answer 404 unless [`http`](Listener::http) gives them something to say.
    pub fn websocket(address: impl Into<String>, path: &str) -> Self {
        let path = format!("/{}", path.trim_start_matches('/'));
        Self {
            websocket: Some(WebSocketOptions {
                path,
                check_origin: None,
                http: Router::new(),
            }),
            ..Self::tcp(address)
        }
    }

    /// Encrypts it, with a certificate chain and its private key from PEM files.
    #[must_use]
    pub fn tls(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls = Some((certificate.into(), key.into()));
        self
    }

    /// Decides by the head of its request who may open a WebSocket; others get 403. By default
    /// everybody may. On TCP it has no effect. It is called on the threads that do the network's
    /// work: it must not block.
    #[must_use]
    pub fn check_origin(mut self, check: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        if let Some(websocket) = &mut self.websocket {
            websocket.check_origin = Some(Arc::new(check));
        }
        self
    }

    /// Serves HTTP beside the WebSocket: whatever an [`axum`] router can do but upgrade connections
    /// itself. Routes that overlap with others of this listener are a start-up error. On TCP it has
    /// no effect. Its handlers run on the threads that do the network's work: they must not block.
    #[must_use]
    pub fn http(mut self, router: Router) -> Self {
        self.pages.push(Pages::Router(router));
        self
    }

    /// Serves the files of a directory under a path such as `/web`, with `index.html` for
    /// directories. Overlaps and TCP as with [`http`](Listener::http).
    #[must_use]
    pub fn files(mut self, path: &str, directory: impl Into<PathBuf>) -> Self {
        self.pages.push(Pages::Files(
            path.trim_matches('/').to_owned(),
            directory.into(),
        ));
        self
    }

    /// Checks what can be checked, and takes the address without listening yet: a client that comes
    /// too early is refused, not kept waiting.
    pub(super) async fn bind(mut self) -> Result<Bound> {
        let acceptor = self
            .tls
            .as_ref()
            .map(|(certificate, key)| tls::acceptor(certificate, key))
            .transpose()?;
        if let Some(websocket) = &mut self.websocket {
            websocket.http = merge(&self.address, std::mem::take(&mut self.pages))?;
        }
        let socket = socket::take(&self.address).await.map_err(|error| {
            Error::new(
                code::UNAVAILABLE,
                format!("cannot listen on {}: {error}", self.address),
            )
            .with_source(error)
        })?;
        Ok(Bound {
            socket,
            acceptor,
            listener: self,
        })
    }
}

/// One router of all. Axum panics at routes that overlap or are none; here that is an error.
fn merge(address: &str, pages: Vec<Pages>) -> Result<Router> {
    let merged = catch_unwind(AssertUnwindSafe(|| {
        pages
            .into_iter()
            .fold(Router::new(), |all, pages| all.merge(pages.router()))
    }));
    merged.map_err(|panic| {
        let why = panic.downcast_ref::<String>().map_or_else(
            || panic.downcast_ref::<&str>().copied().unwrap_or_default(),
            String::as_str,
        );
        Error::new(
            code::BAD_REQUEST,
            format!("HTTP routes of {address}: {why}"),
        )
    })
}

impl Pages {
    fn router(self) -> Router {
        match self {
            Self::Router(router) => router,
            Self::Files(path, directory) if path.is_empty() => {
                Router::new().fallback_service(ServeDir::new(directory))
            }
            Self::Files(path, directory) => {
                // The page of a directory names its other files relative to the slash.
                let redirect = Redirect::temporary(&format!("/{path}/"));
                let router = Router::new().route(&format!("/{path}"), get(|| async { redirect }));
                router.nest_service(&format!("/{path}/"), ServeDir::new(directory))
            }
        }
    }
}

/// A listener that has its address.
pub(super) struct Bound {
    socket: TcpSocket,
    acceptor: Option<TlsAcceptor>,
    listener: Listener,
}

impl Bound {
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    pub(super) fn listen(self) -> Result<Listening> {
        let address = self.listener.address.clone();
        let wrong = |error: io::Error| {
            Error::new(
                code::UNAVAILABLE,
                format!("cannot listen on {address}: {error}"),
            )
            .with_source(error)
        };
        let socket = self.socket.listen(BACKLOG).map_err(wrong)?;
        let address = socket.local_addr()?;
        Ok(Listening {
            socket,
            address,
            acceptor: self.acceptor,
            websocket: self.listener.websocket,
        })
    }
}

/// A listener clients can reach.
pub(super) struct Listening {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) websocket: Option<WebSocketOptions>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.websocket.as_ref().map(|websocket| &websocket.path);
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("websocket", &path)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}
