//! Opening a transport: TCP, then TLS, then the WebSocket upgrade.

use std::{
    error::Error as StdError,
    future, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use nano_protocol::{Error, Result, code};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::sleep,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{
        self,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    },
};

use crate::{
    address::Address,
    io::{BoxedIo, Upgrading},
    tls,
    transport::Transport,
    websocket::WebSocket,
};

/// How long one address may take before the next is tried beside it (RFC 8305).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What the request that opens a WebSocket says beyond its address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upgrade {
    pub(crate) headers: Vec<(String, String)>,
    /// In the order of preference.
    pub(crate) subprotocols: Vec<String>,
}

impl Upgrade {
    /// # Errors
    /// [`code::BAD_REQUEST`] names the header that is invalid, or that the upgrade itself sets.
    fn request(&self, uri: &Uri) -> Result<Request> {
        let invalid = |what: &str| Error::bad_request(format!("{what} of the upgrade is invalid"));
        let request = uri.clone().into_client_request();
        let mut request = request.map_err(|error| Error::bad_request(error.to_string()))?;
        let headers = request.headers_mut();
        for (name, value) in &self.headers {
            let header = name.parse::<HeaderName>().ok();
            let header = header.filter(|header| {
                let upgrade = [header::CONNECTION, header::UPGRADE].contains(header);
                !upgrade && !header.as_str().starts_with("sec-websocket-")
            });
            let header = header.ok_or_else(|| invalid(&format!("header {name:?}")))?;
            let value = HeaderValue::from_str(value);
            // The value may be a secret.
            let value = value.map_err(|_| invalid(&format!("the value of header {name:?}")))?;
            if header == header::HOST {
                headers.insert(header, value);
            } else {
                headers.append(header, value);
            }
        }
        if !self.subprotocols.is_empty() {
            let names = HeaderValue::from_str(&self.subprotocols.join(", "));
            let names = names.map_err(|_| invalid("a subprotocol"))?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, names);
        }
        Ok(request)
    }
}

pub(crate) async fn dial(
    address: &Address,
    ca_file: Option<PathBuf>,
    server_name: Option<String>,
    upgrade: &Upgrade,
    max_packet: usize,
) -> Result<Transport> {
    let tcp = connect(&address.host, address.port)
        .await
        .map_err(|error| unavailable("cannot connect", address, error, ""))?;
    tcp.set_nodelay(true)
        .map_err(|error| unavailable("cannot connect", address, error, ""))?;

    let io: BoxedIo = if address.tls {
        let name = server_name.unwrap_or_else(|| address.host.clone());
        let config = tls::Config::new(name, ca_file).await?;
        let stream = config.connect(tcp).await;
        Box::new(stream.map_err(|error| {
            let hint = tls::hint(&error);
            unavailable("TLS failed", address, error, hint)
        })?)
    } else {
        Box::new(tcp)
    };

    let Some(uri) = &address.websocket else {
        return Ok(Transport::stream(io));
    };
    let request = upgrade.request(uri)?;
    let (socket, _) = client_async(request, Upgrading::new(io))
        .await
        .map_err(|error| {
            let hint = hint(&error);
            unavailable("WebSocket upgrade failed", address, error, hint)
        })?;
    let (io, read) = socket.into_inner().into_parts();
    Ok(Transport::websocket(WebSocket::new(io, read, max_packet)))
}

/// Connects to the first address of a host that answers: "happy eyeballs".
///
/// The families take turns. An address that fails makes room for the next at once; one that does not
/// answer gets company after [`ATTEMPT_DELAY`].
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut addresses = interleave(lookup(host, port).await?).into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(TcpStream::connect(address));
        } else if attempts.is_empty() {
            return Err(last);
        }
        let next = async {
            match addresses.len() {
                0 => future::pending().await,
                _ => sleep(ATTEMPT_DELAY).await,
            }
        };
        tokio::select! {
            Some(attempt) = attempts.join_next() => match attempt.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = next => {}
        }
    }
}

/// Returns the addresses of a host. `localhost` always has one in each family (RFC 6761), whatever
/// the machine's files say: a server may listen on either.
async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    if host.eq_ignore_ascii_case("localhost") {
        for address in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ] {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(addresses)
}

/// Lets the address families take turns, beginning with that of the first address.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first_is_v4);
    let mut turns = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

fn unavailable(
    what: &str,
    address: &Address,
    error: impl StdError + Send + Sync + 'static,
    hint: &str,
) -> Error {
    let Address { host, port, .. } = address;
    Error::new(
        code::UNAVAILABLE,
        format!("{what}: {host}:{port}: {error}{hint}"),
    )
    .with_source(error)
}

/// What is probably wrong with the address when an upgrade fails so.
fn hint(error: &tungstenite::Error) -> &'static str {
    use tungstenite::error::{Error::*, ProtocolError};

    match error {
        Http(response) if response.status() == StatusCode::NOT_FOUND => " (is the path right?)",
        // A listener of packets closes the connection, perhaps with a reset. One of TLS sends an
        // alert.
        Io(_) | Protocol(ProtocolError::HandshakeIncomplete | ProtocolError::HttparseError(_)) => {
            " (no HTTP: is the address one of tcp://, tls:// or wss://?)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_take_turns() {
        let parse = |text: &str| -> Vec<SocketAddr> {
            text.split_whitespace()
                .map(|it| format!("{it}:1").parse().unwrap())
                .collect()
        };
        for (given, tried) in [
            ("", ""),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1] [::2] 10.0.0.1", "[::1] 10.0.0.1 [::2]"),
            (
                "10.0.0.1 10.0.0.2 [::1] [::2] [::3]",
                "10.0.0.1 [::1] 10.0.0.2 [::2] [::3]",
            ),
        ] {
            assert_eq!(interleave(parse(given)), parse(tried));
        }
    }
}
