//! Where a connection comes from, and whether it may come: proxies, deny list, limits by address.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpStream, time::timeout};
use tracing::debug;

use super::{address_limit::AddressPermit, shared::Shared};
use crate::net::{proxy_header, tls::ClientCertificates};

/// The connections of one address beyond its limit that wait for the handshake of a return.
const RETURNS_PER_ADDRESS: usize = 4;

/// The client's end of a connection. Counts for its address until it is dropped.
pub(super) struct Origin {
    /// The client's address, behind trusted proxies too. A custom transport may have none.
    pub(super) remote: Option<SocketAddr>,
    pub(super) certificates: Option<ClientCertificates>,
    /// The name of the listener.
    pub(super) listener: Arc<str>,
    /// Whether the connection is one too many, unless its client returns to a session: then an
    /// earlier connection of it is about to end.
    pub(super) must_return: bool,
    _permit: Option<AddressPermit>,
}

impl Origin {
    /// Admits a connection, unless its address is denied or has too many. Those of a trusted proxy
    /// are counted once the client behind it is known.
    pub(super) fn admit(
        gate: &Shared,
        listener: &Arc<str>,
        remote: Option<SocketAddr>,
        is_proxy: bool,
    ) -> Option<Self> {
        let ip = remote.map(|remote| remote.ip());
        if ip.is_some_and(|ip| gate.node.is_denied(ip)) {
            gate.metrics.connection_refused("denied");
            debug!(?remote, "connection refused: address denied");
            return None;
        }
        let mut must_return = false;
        let permit = match (gate.limits.per_address(), ip) {
            (Some(bound), Some(ip)) if !is_proxy => {
                let mut permit = gate.address_limit.acquire(ip, bound);
                if permit.is_none() && !gate.resumable.is_empty() {
                    must_return = true;
                    let most = bound.saturating_add(RETURNS_PER_ADDRESS);
                    permit = gate.address_limit.acquire(ip, most);
                }
                if permit.is_none() {
                    gate.metrics.connection_refused("address_limit");
                    debug!(?remote, "connection refused: too many of its address");
                    return None;
                }
                permit
            }
            _ => None,
        };
        Some(Self {
            remote,
            certificates: None,
            listener: listener.clone(),
            must_return,
            _permit: permit,
        })
    }

    /// Continues as a client behind this proxy; see [`admit`](Self::admit).
    pub(super) fn behind(self, gate: &Shared, client: SocketAddr, is_proxy: bool) -> Option<Self> {
        let admitted = Self::admit(gate, &self.listener, Some(client), is_proxy)?;
        Some(Self {
            certificates: self.certificates,
            must_return: self.must_return || admitted.must_return,
            ..admitted
        })
    }

    /// Reads the PROXY header that a trusted proxy begins with, and continues as the client it
    /// names. `None` if there is none in time, or the client may not come.
    pub(super) async fn behind_proxy_header(
        self,
        gate: &Shared,
        stream: &mut TcpStream,
        is_proxy: impl Fn(SocketAddr) -> bool,
    ) -> Option<Self> {
        let proxy = self.remote;
        let header = timeout(gate.config.handshake_timeout, proxy_header::read(stream));
        let fault = match gate.unless_stopped(header).await? {
            Ok(Ok(Some(client))) => return self.behind(gate, client, is_proxy(client)),
            Ok(Ok(None)) => return Some(self),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                // A health check.
                gate.metrics.silent_connections.increment(1);
                debug!(?proxy, "proxy closed the connection without a PROXY header");
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "timed out".to_owned(),
        };
        gate.metrics.connection_refused("proxy_header");
        debug!(
            ?proxy,
            fault, "connection refused: no PROXY header from a trusted proxy"
        );
        None
    }
}
