//! Addresses for nodes whose port must be known before they start, or that start again at the same one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use parking_lot::Mutex;

/// Ports below those that systems choose from, for listeners on port 0 and for connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The ports this process has been given, each held as one of UDP until it ends.
static GIVEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// An address of the loopback interface that nothing else listens on or connects from: the system
/// chooses other ports, and other processes of tests ask for the same port of UDP first.
pub(crate) fn free_address() -> String {
    let mut given = GIVEN.lock();
    // Processes begin at different ports, so that they seldom ask for the same.
    let begin = std::process::id() * 50 % u32::try_from(PORTS.len()).unwrap();
    let ports = PORTS.cycle().skip(begin as usize + given.len());
    for port in ports.take(PORTS.len()) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Ok(held) = UdpSocket::bind(address)
            && TcpListener::bind(address).is_ok()
        {
            given.push(held);
            return address.to_string();
        }
    }
    panic!("no port is free");
}
