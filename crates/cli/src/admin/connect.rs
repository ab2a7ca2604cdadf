//! Connections to an admin server, with TLS where a proxy before it has some.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use super::address::Address;

/// Bytes to and from a server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// # Errors
/// Says why there is no connection.
pub(super) async fn connect(address: &Address) -> Result<Box<dyn Stream>, String> {
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await;
    let tcp = tcp.map_err(|error| error.to_string())?;
    if !address.tls {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(address.host.clone()).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    // Those of the system that cannot be read are missing, which the handshake then says.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, tcp).await;
    Ok(Box::new(stream.map_err(|error| {
        let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        let hint = match of_tls {
            // The connection was closed, or the answer is none of TLS.
            None | Some(rustls::Error::InvalidMessage(_)) => " (no TLS: is it http://?)",
            Some(_) => "",
        };
        format!("{error}{hint}")
    })?))
}
