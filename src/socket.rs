//! Taking an address before anybody may connect to it.

use std::io;

use tokio::net::{TcpSocket, lookup_host};

/// A socket that has the address but does not listen yet, so that whoever comes too early is
/// refused, not kept waiting.
pub(crate) async fn take(address: &str) -> io::Result<TcpSocket> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such address");
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // Not on Windows, where it would let two programs share the port.
        #[cfg(not(windows))]
        socket.set_reuseaddr(true)?;
        match socket.bind(address) {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
