//! Options of a listener that each of its connections needs.

use std::{net::IpAddr, sync::Arc};

use axum::{Router, http::request::Parts};

use crate::net::{network::NetworkSet, tls::ServerTls};

type CheckOrigin = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// What the connections of a listener share.
pub(super) struct ConnectionOptions {
    pub(super) name: Arc<str>,
    pub(super) tls: Option<Arc<ServerTls>>,
    /// The proxies that begin with a PROXY header.
    pub(super) proxies: Option<NetworkSet>,
    pub(super) websocket: Option<WebSocketOptions>,
}

impl ConnectionOptions {
    /// Whether a PROXY header comes first.
    pub(super) fn expects_proxy_header(&self, ip: IpAddr) -> bool {
        self.proxies.as_ref().is_some_and(|it| it.contains(ip))
    }

    /// Whether this is a proxy that names the client in HTTP headers.
    pub(super) fn is_forwarder(&self, ip: IpAddr) -> bool {
        let websocket = self.websocket.as_ref();
        websocket.is_some_and(|it| it.is_forwarder(ip))
    }
}

/// What the HTTP of a listener answers, and which requests open a WebSocket.
#[derive(Clone)]
pub(super) struct WebSocketOptions {
    pub(super) path: String,
    pub(super) check_origin: Option<CheckOrigin>,
    /// The proxies whose word about the client's address is taken.
    pub(super) forwarders: Option<NetworkSet>,
    /// In the order of preference.
    pub(super) subprotocols: Vec<String>,
    /// The pages beside the WebSocket.
    pub(super) http: Router,
}

impl WebSocketOptions {
    /// Whether this is a proxy that names the client in HTTP headers.
    pub(super) fn is_forwarder(&self, ip: IpAddr) -> bool {
        let forwarders = self.forwarders.as_ref();
        forwarders.is_some_and(|it| it.contains(ip))
    }
}
