//! Where a connection comes from, and whether it may come: proxies, deny list, limits by address.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpStream, time::timeout};
use tracing::debug;

use super::{address_limit::AddressPermit, refused::Refused, shared::Shared};
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
    /// Admits a connection. Those of a trusted proxy are counted once the client behind it is known.
    ///
    /// # Errors
    /// Its address is denied, or has too many.
    pub(super) fn admit(
        gate: &Shared,
        listener: &Arc<str>,
        remote: Option<SocketAddr>,
        is_proxy: bool,
    ) -> Result<Self, Refused> {
        let ip = remote.map(|remote| remote.ip());
        remote.map_or(Ok(()), |remote| check_denied(gate, remote))?;
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
                    let cause = Refused::AddressLimit;
                    gate.refused(
                        cause,
                        remote,
                        format_args!("more than {bound} of its address"),
                    );
                    return Err(cause);
                }
                permit
            }
            _ => None,
        };
        Ok(Self {
            remote,
            certificates: None,
            listener: listener.clone(),
            must_return,
            _permit: permit,
        })
    }

    /// Admits the client behind this proxy.
    ///
    /// # Errors
    /// See [`admit`](Self::admit).
    pub(super) fn behind(
        &self,
        gate: &Shared,
        client: SocketAddr,
        is_proxy: bool,
    ) -> Result<Self, Refused> {
        let mut admitted = Self::admit(gate, &self.listener, Some(client), is_proxy)?;
        admitted.must_return |= self.must_return;
        Ok(admitted)
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
        let header = timeout(gate.limits.handshake_timeout(), proxy_header::read(stream));
        let fault = match gate.unless_stopped(header).await? {
            Ok(Ok(Some(client))) => return self.behind(gate, client, is_proxy(client)).ok(),
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
        gate.refused(Refused::ProxyHeader, proxy, fault);
        None
    }
}

/// Checks an address against the deny list.
///
/// # Errors
/// It is denied.
pub(super) fn check_denied(gate: &Shared, client: SocketAddr) -> Result<(), Refused> {
    if !gate.node.is_denied(client.ip()) {
        return Ok(());
    }
    gate.refused(Refused::Denied, Some(client), "by the deny list");
    Err(Refused::Denied)
}
