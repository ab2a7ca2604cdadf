//! The addresses of clients, as reports show them.

use std::net::SocketAddr;

/// The text of a client's address. An HTTP proxy passes on no port: then it has none.
pub(super) fn client_address(address: SocketAddr) -> String {
    match address.port() {
        0 => address.ip().to_string(),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_shown_without_one() {
        for (address, shown) in [
            ("198.51.100.7:0", "198.51.100.7"),
            ("198.51.100.7:41011", "198.51.100.7:41011"),
            ("[2001:db8::7]:0", "2001:db8::7"),
            ("[2001:db8::7]:80", "[2001:db8::7]:80"),
        ] {
            assert_eq!(client_address(address.parse().unwrap()), shown);
        }
    }
}
