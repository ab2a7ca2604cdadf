//! Binding an address before clients may connect to it.

use std::io;

use tokio::net::{TcpSocket, lookup_host};

/// Binds the first usable address that `address` resolves to, without listening yet: early clients
/// are refused instead of waiting in the backlog.
///
/// # Errors
/// That of the last address tried, or of the lookup.
pub(crate) async fn bind(address: &str) -> io::Result<TcpSocket> {
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
