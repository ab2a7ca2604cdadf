//! Where a connection comes from, and whether it may come: proxies, deny list, limits by address.

use std::{io, net::SocketAddr};

use tokio::{net::TcpStream, time::timeout};
use tracing::debug;

use super::{address_limit::AddressPermit, shared::Shared};
use crate::net::{proxy_header, tls::ClientCertificates};

/// The client's end of a connection. Counts for its address until it is dropped.
pub(super) struct Origin {
    /// The client's address, behind trusted proxies too. A custom transport may have none.
    pub(super) remote: Option<SocketAddr>,
    pub(super) certificates: Option<ClientCertificates>,
    _permit: Option<AddressPermit>,
}

impl Origin {
    /// Admits a connection, unless its address is denied or has too many. Those of a trusted proxy
    /// are counted once the client behind it is known.
    pub(super) fn admit(gate: &Shared, remote: Option<SocketAddr>, is_proxy: bool) -> Option<Self> {
        let ip = remote.map(|remote| remote.ip());
        if ip.is_some_and(|ip| gate.node.is_denied(ip)) {
            gate.metrics.connection_refused("denied");
            debug!(?remote, "connection refused: address denied");
            return None;
        }
        let permit = match (gate.limits.per_address(), ip) {
            (Some(bound), Some(ip)) if !is_proxy => match gate.address_limit.acquire(ip, bound) {
                Some(permit) => Some(permit),
                None => {
                    gate.metrics.connection_refused("address_limit");
                    debug!(?remote, "connection refused: too many of its address");
                    return None;
                }
            },
            _ => None,
        };
        Some(Self {
            remote,
            certificates: None,
            _permit: permit,
        })
    }

    /// Continues as a client behind this proxy; see [`admit`](Self::admit).
    pub(super) fn behind(self, gate: &Shared, client: SocketAddr, is_proxy: bool) -> Option<Self> {
        let admitted = Self::admit(gate, Some(client), is_proxy)?;
        Some(Self {
            certificates: self.certificates,
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
