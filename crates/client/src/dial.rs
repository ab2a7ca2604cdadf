//! Opening a transport: TCP, then TLS, then the WebSocket upgrade.

use std::{error::Error as StdError, path::PathBuf};

use nano_protocol::{Error, Result, code};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async_with_config;

use crate::{
    address::Address,
    tls,
    transport::{BoxedIo, Transport, websocket_config},
};

pub(crate) async fn dial(
    address: &Address,
    ca_file: Option<PathBuf>,
    server_name: Option<String>,
    max_packet: usize,
) -> Result<Transport> {
    let tcp = TcpStream::connect((&*address.host, address.port))
        .await
        .map_err(|error| unavailable("cannot connect", address, error))?;
    tcp.set_nodelay(true)
        .map_err(|error| unavailable("cannot connect", address, error))?;

    let io: BoxedIo = if address.tls {
        let name = server_name.unwrap_or_else(|| address.host.clone());
        let config = tls::Config::new(name, ca_file).await?;
        let stream = config.connect(tcp).await;
        Box::new(stream.map_err(|error| unavailable("TLS failed", address, error))?)
    } else {
        Box::new(tcp)
    };

    let Some(uri) = &address.websocket else {
        return Ok(Transport::stream(io));
    };
    let (socket, _) = client_async_with_config(uri.clone(), io, Some(websocket_config(max_packet)))
        .await
        .map_err(|error| unavailable("WebSocket upgrade failed", address, error))?;
    Ok(Transport::websocket(socket))
}

fn unavailable(
    what: &str,
    address: &Address,
    error: impl StdError + Send + Sync + 'static,
) -> Error {
    Error::new(
        code::UNAVAILABLE,
        format!("{what}: {}:{}: {error}", address.host, address.port),
    )
    .with_source(error)
}
