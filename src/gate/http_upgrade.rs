//! HTTP before a WebSocket, or instead of one.

use std::{
    convert::Infallible,
    future, io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header},
    response::IntoResponse,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{
    admission::{Origin, check_denied},
    client_state::FLUSH_TIMEOUT,
    connection_options::WebSocketOptions,
    refused::Refused,
    shared::Shared,
    upgrade_request::UpgradeRequest,
};
use crate::net::forwarded::{self, Contradiction};

mod opening_handshake;
mod progress;

use self::{
    opening_handshake::{Refusal, Target},
    progress::{ProgressBody, ProgressIo, Signals},
};

/// The most headers of a request. Go nano has no such limit, only one for their bytes.
const MAX_HEADERS: usize = 1_000;
/// The most bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;

/// The most characters of a path in a log line.
const LOGGED_PATH: usize = 80;

/// The answer to a client that speaks HTTP/2 at once: the HTTP library has none.
const HTTP2: &str = "HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Type: text/plain\r\n\
     Content-Length: 34\r\nConnection: close\r\n\r\nThis server speaks HTTP/1.1 only.\n";

const CONTRADICTION: &str = "The headers 'Forwarded' and 'X-Forwarded-For' name different clients. The \
    proxy in front of this server has to remove the one that it does not write.\n";

/// A stream whose client has received the response that opens a WebSocket.
pub(super) struct Upgraded<S> {
    pub(super) io: S,
    /// The bytes that were read behind the request.
    pub(super) read: Vec<u8>,
    pub(super) request: UpgradeRequest,
    /// The client, if a trusted proxy named it.
    pub(super) client: Option<Origin>,
}

/// A request that is accepted, and the head of the response.
struct Accepted {
    request: UpgradeRequest,
    head: String,
    client: Option<Origin>,
}

/// Serves HTTP requests until one upgrades to a WebSocket. Returns `None` when the connection ended
/// without an upgrade. `peer` is the other end of the connection; a request that a trusted proxy
/// passes on is refused if the client it names may not connect.
///
/// # Errors
/// The connection broke, or with [`io::ErrorKind::TimedOut`] a head, a body or a response made no
/// progress for the handshake timeout.
pub(super) async fn serve<S>(
    io: S,
    options: &WebSocketOptions,
    gate: &Shared,
    peer: &Origin,
) -> io::Result<Option<Upgraded<S>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let period = gate.limits.handshake_timeout();
    let signals = Arc::new(Signals::default());
    // Locked only to store and to take the request.
    let accepted = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let (signals, accepted) = (signals.clone(), &accepted);
        let body = move |body| Body::new(ProgressBody::new(body, period, signals));
        Box::pin(async move {
            match answer(options, gate, peer, request.map(body)).await {
                Ok(upgrade) => {
                    *accepted.lock() = Some(upgrade);
                    // The stream is taken from the HTTP library now, which would write the names
                    // of the headers in its own way.
                    future::pending::<Result<Response<Body>, Infallible>>().await
                }
                Err(response) => Ok(*response),
            }
        })
    });
    let io = ProgressIo::new(io, period, signals.clone());
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(period)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        // Go nano sends header names in title case and no date.
        .title_case_headers(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    let (result, accepted) = future::poll_fn(|cx| {
        let result = connection.poll_without_shutdown(cx);
        // Responses to earlier requests are written first.
        match (accepted.lock().take_if(|_| !signals.is_blocked()), result) {
            (Some(accepted), _) => Poll::Ready((Ok(()), Some(accepted))),
            (None, Poll::Ready(result)) => Poll::Ready((result, None)),
            (None, Poll::Pending) => Poll::Pending,
        }
    })
    .await;
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner().io;
    if let Some(accepted) = accepted {
        let Accepted {
            request,
            head,
            client,
        } = accepted;
        let write = async {
            io.write_all(head.as_bytes()).await?;
            io.flush().await
        };
        timeout(period, write).await??;
        return Ok(Some(Upgraded {
            io,
            read: parts.read_buf.to_vec(),
            request,
            client,
        }));
    }
    if let Err(error) = result {
        if signals.is_stalled() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, error));
        }
        if error.is_timeout() {
            let _ = timeout(FLUSH_TIMEOUT, io.shutdown()).await;
            return Err(io::Error::new(io::ErrorKind::TimedOut, error));
        }
        if error.is_parse() {
            let unanswered = !signals.has_written();
            end(&mut io, if unanswered { HTTP2 } else { "" }).await;
        }
        return Err(io::Error::other(error));
    }
    end(&mut io, "").await;
    Ok(None)
}

/// Answers a request, or accepts it as an upgrade.
async fn answer(
    options: &WebSocketOptions,
    gate: &Shared,
    peer: &Origin,
    request: Request<Body>,
) -> Result<Accepted, Box<Response<Body>>> {
    let (head, body) = request.into_parts();
    opening_handshake::check_host(&head).map_err(refuse)?;
    let client = forwarded_for(options, peer, &head.headers).map_err(refuse)?;
    // A proxy names no port.
    let client = client.map(|client| SocketAddr::new(client, 0));
    if let Some(client) = client {
        check_denied(gate, client).map_err(refuse_client)?;
    }
    let remote = client.or(peer.remote);
    let refuse_upgrade = |refusal: Refusal| {
        gate.refused(Refused::Upgrade, remote, refusal.1.trim_end());
        refuse(refusal)
    };
    match opening_handshake::target(&head, &options.path) {
        Target::WebSocket => {}
        Target::Misspelled => return Err(redirect(&options.path, head.uri.query())),
        Target::Page => {
            let is_upgrade = opening_handshake::check_upgrade(&head).is_ok();
            let path = is_upgrade.then(|| head.uri.path().chars().take(LOGGED_PATH).collect());
            let path: Option<String> = path;
            let response = page(&options.http, Request::from_parts(head, body)).await;
            if let Some(path) = path.filter(|_| response.status() == StatusCode::NOT_FOUND) {
                gate.refused(
                    Refused::Upgrade,
                    remote,
                    format_args!("no WebSocket at {path:?}"),
                );
            }
            return Err(response);
        }
    }
    if let Err(refusal) = opening_handshake::check_upgrade(&head) {
        let response = page(&options.http, Request::from_parts(head, body)).await;
        // The application may have a page at the path of the WebSocket.
        return Err(if response.status() == StatusCode::NOT_FOUND {
            refuse_upgrade(refusal)
        } else {
            response
        });
    }
    let allowed = |head: &_| {
        let check = options.check_origin.as_ref();
        check.is_none_or(|allowed| allowed(head))
    };
    let key = opening_handshake::check_websocket(&head, allowed).map_err(refuse_upgrade)?;
    let subprotocol = opening_handshake::subprotocol(&head.headers, &options.subprotocols);
    let admit = |client: SocketAddr| {
        let is_proxy = options.is_forwarder(client.ip());
        peer.behind(gate, client, is_proxy)
    };
    Ok(Accepted {
        client: client.map(admit).transpose().map_err(refuse_client)?,
        head: opening_handshake::switching(key, subprotocol),
        request: UpgradeRequest::new(head),
    })
}

/// The address of the client that a trusted proxy names.
fn forwarded_for(
    options: &WebSocketOptions,
    peer: &Origin,
    headers: &HeaderMap,
) -> Result<Option<IpAddr>, Refusal> {
    let proxy = peer.remote.map(|remote| remote.ip());
    let trusted = options.forwarders.as_ref();
    match trusted.zip(proxy) {
        Some((trusted, proxy)) if trusted.contains(proxy) => {
            let client = forwarded::client(headers, trusted);
            client.map_err(|Contradiction| Refusal(StatusCode::BAD_REQUEST, CONTRADICTION))
        }
        _ => Ok(None),
    }
}

fn refuse_client(refused: Refused) -> Box<Response<Body>> {
    refuse(match refused {
        Refused::Denied => Refusal(StatusCode::FORBIDDEN, "This address is denied.\n"),
        _ => Refusal(
            StatusCode::TOO_MANY_REQUESTS,
            "This address has too many connections.\n",
        ),
    })
}

fn refuse(Refusal(status, text): Refusal) -> Box<Response<Body>> {
    let mut response = (status, [(header::SEC_WEBSOCKET_VERSION, "13")], text).into_response();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
    }
    Box::new(response)
}

fn redirect(path: &str, query: Option<&str>) -> Box<Response<Body>> {
    let location = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    Box::new(match HeaderValue::from_str(&location) {
        Ok(location) => (
            StatusCode::MOVED_PERMANENTLY,
            [(header::LOCATION, location)],
        )
            .into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn page(router: &Router, request: Request<Body>) -> Box<Response<Body>> {
    use hyper::service::Service;

    match TowerToHyperService::new(router.clone()).call(request).await {
        Ok(response) => Box::new(response),
        Err(never) => match never {},
    }
}

/// Writes the last bytes and closes the outgoing direction. Discards input for a while: a socket
/// that is closed with unread input is reset, and the reset can overtake the response.
async fn end(io: &mut (impl AsyncRead + AsyncWrite + Unpin), last: &str) {
    let end = async {
        io.write_all(last.as_bytes()).await?;
        io.shutdown().await?;
        let mut discarded = [0; 1024];
        while io.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    // In time or not, the socket is closed now.
    let _ = timeout(FLUSH_TIMEOUT, pin!(end)).await;
}
