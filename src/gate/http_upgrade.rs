//! HTTP before a WebSocket, or instead of one.

use std::{
    convert::Infallible,
    io,
    net::IpAddr,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header},
    response::IntoResponse,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::listener::WebSocketOptions;
use crate::net::forwarded;

/// What is left of an HTTP connection after an upgrade.
pub(super) struct Upgraded<S> {
    pub(super) io: S,
    /// The bytes that were read behind the request.
    pub(super) read: Vec<u8>,
    /// The client's address, if a trusted proxy told it.
    pub(super) forwarded_for: Option<IpAddr>,
}

/// Serves HTTP requests until one upgrades to a WebSocket. `None` when the connection ended without
/// an upgrade. `peer` is the other end of the connection.
pub(super) async fn serve<S>(
    io: S,
    options: &WebSocketOptions,
    peer: IpAddr,
    header_timeout: Duration,
) -> io::Result<Option<Upgraded<S>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let upgraded = AtomicBool::new(false);
    let forwarders = options.forwarders.as_ref();
    let forwarders = forwarders.filter(|trusted| trusted.contains(peer));
    let forwarded_for = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let (upgraded, forwarded_for) = (&upgraded, &forwarded_for);
        async move {
            if request.uri().path() != options.path || !wants_websocket(request.headers()) {
                return Ok(answer(&options.http, request.map(Body::new)).await);
            }
            let (head, _) = request.into_parts();
            *forwarded_for.lock() =
                forwarders.and_then(|trusted| forwarded::client(&head.headers, trusted));
            let response = match &options.check_origin {
                Some(allowed) if !allowed(&head) => StatusCode::FORBIDDEN.into_response(),
                _ => accept(&head.method, &head.headers),
            };
            upgraded.store(
                response.status() == StatusCode::SWITCHING_PROTOCOLS,
                Ordering::Relaxed,
            );
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        // Go nano sends header names in title case and no date.
        .title_case_headers(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    let parts = pin!(connection.without_shutdown())
        .await
        .map_err(io::Error::other)?;
    Ok(upgraded.load(Ordering::Relaxed).then(|| Upgraded {
        io: parts.io.into_inner(),
        read: parts.read_buf.to_vec(),
        forwarded_for: forwarded_for.lock().take(),
    }))
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    let lists = |name, word: &str| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value: &HeaderValue| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(word))
    };
    lists(header::CONNECTION, "upgrade") && lists(header::UPGRADE, "websocket")
}

/// Accepts the upgrade. Subprotocols and extensions that the client offers are ignored, which RFC
/// 6455 allows.
fn accept(method: &Method, headers: &HeaderMap) -> Response<Body> {
    let version = headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_some_and(|version| version == "13");
    let Some(key) = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|_| version && method == Method::GET)
    else {
        return (
            StatusCode::BAD_REQUEST,
            [(header::SEC_WEBSOCKET_VERSION, "13")],
            "not a WebSocket handshake\n",
        )
            .into_response();
    };
    let accept = derive_accept_key(key.as_bytes());
    let headers = [
        (header::UPGRADE, "websocket"),
        (header::CONNECTION, "Upgrade"),
        (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

async fn answer(router: &Router, request: Request<Body>) -> Response<Body> {
    use hyper::service::Service;

    match TowerToHyperService::new(router.clone()).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
