//! From an accepted socket to a session: TLS, HTTP upgrade, connection task.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    admission::Origin,
    client_state::FLUSH_TIMEOUT,
    connection::Connection,
    connection_options::ConnectionOptions,
    detached::keep,
    handle::ConnectionHandle,
    http_upgrade,
    opening::Opening,
    refused::Refused,
    resume_handshake::{Offer, Resumption, Return},
    session_guard::{SessionGuard, finish},
    shared::{ConnectionPermit, Shared},
    tunnel::{
        carry::carry,
        client::{Distant, Tunnel},
    },
};
use crate::{
    handshake::Request,
    net::{
        accept_errors::{AcceptErrors, AcceptStep},
        address::canonical,
        stream::{Stream, Transport},
        transport::{Accepted, DynAcceptor},
        websocket::WebSocket,
    },
    resume::Lost,
    session::{CloseReason, SessionSink},
};

/// Accepts connections for ever, each in a task of its own.
pub(super) async fn accept(
    gate: Arc<Shared>,
    socket: TcpListener,
    options: Arc<ConnectionOptions>,
) {
    let mut errors = AcceptErrors::default();
    loop {
        let (stream, remote) = match socket.accept().await {
            Ok((stream, remote)) => (stream, canonical(remote)),
            Err(error) => {
                pause(&mut errors, socket.local_addr().ok(), &error).await;
                continue;
            }
        };
        if errors.accepted() {
            info!("accepting connections again");
        }
        let ip = remote.ip();
        let is_proxy = options.expects_proxy_header(ip) || options.is_forwarder(ip);
        let Ok(mut origin) = Origin::admit(&gate, &options.name, Some(remote), is_proxy) else {
            continue;
        };
        let Some(permit) = ConnectionPermit::acquire(&gate) else {
            refuse_one_too_many(&gate, Some(remote));
            continue;
        };
        origin.must_return |= permit.must_return;
        let (gate, options) = (gate.clone(), options.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = set_options(&stream, gate.limits.tcp_keepalive()) {
                debug!(%remote, %error, "connection lost after accept");
                return;
            }
            // The rarer kinds are boxed: a task is as large as the largest future in it, and an
            // idle TCP connection must not pay for proxies, TLS and HTTP.
            if is_proxy || options.tls.is_some() || options.websocket.is_some() {
                Box::pin(open(gate, stream, options, origin)).await;
            } else {
                await_first_byte(gate, Stream::new(stream), origin).await;
            }
        });
    }
}

/// Accepts connections of a custom transport for ever, each in a task of its own.
pub(super) async fn accept_custom(
    gate: Arc<Shared>,
    mut acceptor: Box<dyn DynAcceptor>,
    options: Arc<ConnectionOptions>,
) {
    let mut errors = AcceptErrors::default();
    loop {
        let Accepted { transport, remote } = match acceptor.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(&mut errors, acceptor.local_addr(), &error).await;
                continue;
            }
        };
        errors.accepted();
        let Ok(mut origin) = Origin::admit(&gate, &options.name, remote.map(canonical), false)
        else {
            continue;
        };
        let Some(permit) = ConnectionPermit::acquire(&gate) else {
            refuse_one_too_many(&gate, remote);
            continue;
        };
        origin.must_return |= permit.must_return;
        let gate = gate.clone();
        tokio::spawn(async move {
            let _permit = permit;
            await_first_byte(gate, transport, origin).await;
        });
    }
}

fn refuse_one_too_many(gate: &Shared, remote: Option<SocketAddr>) {
    let limit = gate.limits.max_connections();
    gate.refused(
        Refused::Limit,
        remote,
        format_args!("more than {limit} connections"),
    );
}

/// Waits after a failed accept, if that is of use.
async fn pause(errors: &mut AcceptErrors, address: Option<SocketAddr>, error: &io::Error) {
    match errors.failed(error) {
        AcceptStep::Continue => debug!(%error, "connection lost before accept"),
        AcceptStep::Pause { wait, is_first } => {
            if is_first {
                warn!(?address, %error, "accept failed, pausing");
            }
            sleep(wait).await;
        }
    }
}

/// Messages are small, and latency matters more than the number of TCP segments.
fn set_options(stream: &TcpStream, keepalive: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match keepalive {
        None => Ok(()),
        Some(interval) => {
            let probes = TcpKeepalive::new()
                .with_time(interval)
                .with_interval(interval);
            SockRef::from(stream).set_tcp_keepalive(&probes)
        }
    }
}

/// Opens a connection from the outside in: PROXY header, TLS, HTTP upgrade.
async fn open(
    gate: Arc<Shared>,
    mut stream: TcpStream,
    options: Arc<ConnectionOptions>,
    mut origin: Origin,
) {
    let peer = origin.remote.map(|remote| remote.ip());
    if peer.is_some_and(|ip| options.expects_proxy_header(ip)) {
        let is_proxy = |client: SocketAddr| options.is_forwarder(client.ip());
        let named = origin.behind_proxy_header(&gate, &mut stream, is_proxy);
        match Box::pin(named).await {
            Some(client) => origin = client,
            None => return,
        }
    }
    let Some(tls) = &options.tls else {
        return Box::pin(speak(gate, stream, options, origin)).await;
    };
    let remote = origin.remote;
    let handshake = timeout(gate.limits.handshake_timeout(), tls.accept(stream));
    let (stream, certificates) = match Box::pin(gate.unless_stopped(handshake)).await {
        Some(Ok(Ok(accepted))) => accepted,
        // A health check.
        Some(Ok(Err(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
            gate.metrics.silent_connections.increment(1);
            return debug!(?remote, %error, "connection closed before its TLS handshake was done");
        }
        Some(Ok(Err(error))) => return gate.refused(Refused::Tls, remote, error),
        Some(Err(_)) => return gate.refused(Refused::Tls, remote, "timed out"),
        None => return,
    };
    origin.certificates = certificates;
    Box::pin(speak(gate, stream, options, origin)).await;
}

/// Continues with what the listener speaks: packets at once, or HTTP first.
async fn speak<S>(gate: Arc<Shared>, stream: S, options: Arc<ConnectionOptions>, mut origin: Origin)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Some(websocket) = &options.websocket else {
        return await_first_byte(gate, Stream::new(stream), origin).await;
    };
    let remote = origin.remote;
    // Boxed, so that the memory of HTTP is free while the WebSocket runs.
    let http = Box::pin(http_upgrade::serve(stream, websocket, &gate, &origin));
    match gate.unless_stopped(http).await {
        Some(Ok(Some(upgraded))) => {
            if let Some(mut client) = upgraded.client {
                client.certificates = origin.certificates.take();
                origin = client;
            }
            let socket = WebSocket::new(upgraded.io, upgraded.read, gate.limits.max_packet());
            let mut opening = Opening::new(gate.limits.max_packet());
            opening.request = Some(Arc::new(upgraded.request));
            serve(gate, socket, origin, opening).await;
        }
        Some(Err(error)) => {
            if error.kind() == io::ErrorKind::TimedOut {
                gate.metrics.http_timeouts.increment(1);
            }
            debug!(?remote, %error, "HTTP connection failed");
        }
        Some(Ok(None)) | None => {}
    }
}

/// Serves a byte stream from its first byte on. A connection without one, such as a load balancer's
/// health check, never becomes a session.
async fn await_first_byte<T: Transport>(gate: Arc<Shared>, transport: T, origin: Origin) {
    // Boxed, so that its memory is free while the connection runs.
    let first = Box::pin(first_bytes(&gate, transport));
    match gate.unless_stopped(first).await {
        Some(Ok((transport, opening))) => serve(gate, transport, origin, opening).await,
        Some(Err(reason)) => {
            let remote = origin.remote;
            gate.metrics.silent_connections.increment(1);
            debug!(?remote, reason, "connection ended without a byte");
            let handle = Arc::new(ConnectionHandle::new(gate.clone(), remote));
            let session = gate.node.sessions().unlisted(handle);
            // Basic members expect it: their gates announce the end of such connections too.
            gate.dispatch.closed(&session, &CloseReason::Client);
        }
        None => {}
    }
}

async fn first_bytes<T: Transport>(
    gate: &Shared,
    mut transport: T,
) -> Result<(T, Opening), &'static str> {
    let mut opening = Opening::new(gate.limits.max_packet());
    let read = poll_fn(|cx| transport.poll_read(cx, &mut opening.decoder));
    let reason = match timeout(gate.limits.handshake_timeout(), read).await {
        Ok(Ok(count @ 1..)) => {
            opening.read = count as u64;
            gate.metrics.bytes_received.increment(opening.read);
            return Ok((transport, opening));
        }
        Ok(Ok(0)) => "closed by the client",
        Ok(Err(_)) => return Err("broken"),
        Err(_) => "handshake timeout",
    };
    // Over TLS the client must be able to tell the end from a cut.
    let shutdown = poll_fn(|cx| transport.poll_shutdown(cx));
    let _ = timeout(FLUSH_TIMEOUT, shutdown).await;
    Err(reason)
}

/// Opens a session and drives its connection to the end.
async fn serve<T: Transport>(
    gate: Arc<Shared>,
    transport: T,
    mut origin: Origin,
    opening: Opening,
) {
    let remote = origin.remote;
    let handle = Arc::new(ConnectionHandle::new(gate.clone(), remote));
    let session = gate.node.sessions().open(handle.clone());
    // `close_sessions` may have listed the sessions before this one was opened.
    if gate.node.is_shutting_down() {
        handle.close(CloseReason::Shutdown);
    }
    // The deny list may have changed since the connection was admitted.
    if remote.is_some_and(|remote| gate.node.is_denied(remote.ip())) {
        handle.close(CloseReason::Denied);
    }
    if let Some(certificates) = origin.certificates.take() {
        session.extensions().insert(certificates);
    }
    debug!(session = session.id(), ?remote, request = ?opening.request, "session opened");
    let guard = SessionGuard::new(gate.clone(), handle.clone(), session.clone());
    let (begun, listener) = (opening.begun, origin.listener.clone());
    // Run in place: as an argument of a future it would lie in the task's memory twice, and an idle
    // connection take 2.6 KB instead of 2.3.
    let mut connection = Connection::new(gate, handle, session, transport, opening, listener);
    if origin.must_return {
        connection.resumption = Resumption::Required;
    }
    let mut ending = connection.run().await;
    match connection.resumption.take_return() {
        None => {}
        Some(Return::Later) => ending = CloseReason::Client.into(),
        Some(Return::Here { session, received }) => {
            guard.discard();
            return Box::pin(hand_over(connection, session, received, remote, begun)).await;
        }
        Some(Return::Distant(to, body)) => {
            match Box::pin(reach(connection.gate.clone(), &to, remote)).await {
                Ok(tunnel) => {
                    guard.discard();
                    return Box::pin(pass_on(connection, tunnel)).await;
                }
                // The client may try again.
                Err(None) => ending = CloseReason::Client.into(),
                Err(Some(_)) if origin.must_return => ending = CloseReason::Client.into(),
                Err(Some(lost)) => {
                    let request = Request::decode(&body);
                    let offer = Offer::Grant(Some(lost));
                    ending = match connection.check_handshake(request, body, offer) {
                        Ok(()) => connection.run().await,
                        Err(ending) => ending,
                    };
                }
            }
        }
    }
    // Only a session that may be resumed is detached, and then there is a window.
    if let Some(window) = connection.gate.config.resume_window
        && connection.detach(&ending.reason)
    {
        // The task that accepts the client's next connection counts that for its address.
        drop(origin);
        let end = Box::pin(keep(connection, ending, window)).await;
        return Box::pin(end.finish(guard)).await;
    }
    Box::pin(finish(connection, guard, ending, None)).await;
}

/// Gives the socket to the session to which its client has returned, and waits until it is closed.
async fn hand_over<T: Transport>(
    connection: Connection<T>,
    session: i64,
    received: u64,
    remote: Option<SocketAddr>,
    begun: Instant,
) {
    let gate = connection.gate.clone();
    let (open, closed) = oneshot::channel();
    let arrival = connection.into_arrival(received, remote, begun, open);
    gate.resumable.deliver(session, arrival);
    // An error is the drop of the sender, with the socket.
    let _ = closed.await;
}

/// Asks the gate that holds the client's session to go on with it.
///
/// # Errors
/// See [`TunnelClient::reach`](super::tunnel::client::TunnelClient::reach).
async fn reach(
    gate: Arc<Shared>,
    to: &Distant,
    remote: Option<SocketAddr>,
) -> Result<Tunnel, Option<Lost>> {
    let tunnels = gate.tunnels.as_ref().ok_or(None)?;
    let members = gate.node.members();
    let reached = gate
        .unless_stopped(tunnels.reach(to, remote, &members))
        .await;
    match reached.unwrap_or(Err(None)) {
        Ok((tunnel, holder)) => {
            debug!(?remote, gate = %holder, "client returned to another gate");
            Ok(tunnel)
        }
        Err(Some(lost)) => {
            gate.metrics.session_lost(lost.as_str());
            Err(Some(lost))
        }
        Err(None) => {
            debug!(
                ?remote,
                gate = to.gate.as_deref(),
                "gate not reached for a return"
            );
            Err(None)
        }
    }
}

/// Carries the client's packets to the gate that holds its session, and back.
async fn pass_on<T: Transport>(connection: Connection<T>, tunnel: Tunnel) {
    let gate = connection.gate.clone();
    let carried = carry(connection.transport, connection.decoder, tunnel);
    // A client whose gate stops returns on another one.
    let _ = gate.unless_stopped(carried).await;
}
