//! Binding an address before clients may connect to it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::SockRef;
use tokio::net::{TcpSocket, lookup_host};

use super::address::{Host, HostPort, is_localhost};

/// How often another port is tried when the system's choice for one family is taken in the other.
const PORT_ATTEMPTS: usize = 16;

/// Binds an address without listening yet: early clients are refused instead of waiting in the
/// listen backlog.
///
/// A name gives a socket for each family, IPv4 first, both on one port. Every other host gives one
/// socket; without a host, or for `[::]`, it is for both families where the system has IPv6.
///
/// # Errors
/// That of the lookup, or of the last address tried: it is in use, or not this machine's. A family
/// that the machine does not have is no error if the other can be bound.
pub(crate) async fn bind(address: &HostPort) -> io::Result<Vec<TcpSocket>> {
    let port = address.port;
    match &address.host {
        Host::Any => {
            let any = bind_one(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
            let socket = any.or_else(|error| match is_missing(&error) {
                true => bind_one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
                false => Err(error),
            })?;
            Ok(vec![socket])
        }
        Host::Ip(ip) => Ok(vec![bind_one(SocketAddr::new(*ip, port))?]),
        Host::Zoned(ip) => bind_families(lookup_host((&**ip, port)).await?.collect()),
        Host::Name(name) if is_localhost(name) => bind_families(vec![
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ]),
        Host::Name(name) => bind_families(lookup_host((&**name, port)).await?.collect()),
    }
}

/// Binds the first usable address of each family, on one port.
fn bind_families(addresses: Vec<SocketAddr>) -> io::Result<Vec<TcpSocket>> {
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv4);
    for _ in 1..PORT_ATTEMPTS {
        match bind_pair(&v4, &v6) {
            // Only if the system chose the port for the first family.
            Err(error) if is_taken(&error) && v4.iter().chain(&v6).all(|it| it.port() == 0) => {}
            bound => return bound,
        }
    }
    bind_pair(&v4, &v6)
}

fn bind_pair(v4: &[SocketAddr], v6: &[SocketAddr]) -> io::Result<Vec<TcpSocket>> {
    let mut bound: Vec<TcpSocket> = Vec::with_capacity(2);
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such address");
    for family in [v4, v6] {
        for address in family {
            let mut address = *address;
            if let Some(first) = bound.first() {
                address.set_port(first.local_addr()?.port());
            }
            match bind_one(address) {
                Ok(socket) => {
                    bound.push(socket);
                    break;
                }
                // Another program would get the clients of this family.
                Err(error) if is_taken(&error) => return Err(error),
                Err(error) => last = error,
            }
        }
    }
    if bound.is_empty() {
        Err(last)
    } else {
        Ok(bound)
    }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(ip) => {
            let socket = TcpSocket::new_v6()?;
            // Not left to the system's default: IPv4 clients belong to `[::]` as well.
            SockRef::from(&socket).set_only_v6(!ip.is_unspecified())?;
            socket
        }
    };
    // Not on Windows, where it would let two programs share the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Whether another socket has the address.
fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Whether the machine lacks the address family.
fn is_missing(error: &io::Error) -> bool {
    // The error of a missing family has no kind.
    !is_taken(error) && error.kind() != io::ErrorKind::PermissionDenied
}
