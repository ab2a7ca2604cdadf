//! Which addresses of nodes can be dialled. No I/O.

use std::net::Ipv6Addr;

/// The longest host name of the domain name system, in bytes.
const MAX_HOST: usize = 253;

/// Whether `address` is `host:port` as a node can be dialled: a name, an IPv4 address, or an IPv6
/// address in brackets, and a port other than 0.
///
/// An empty host stands for the same machine, as it does in Go.
pub(super) fn is_dialable(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let port_is_valid = port.bytes().all(|digit| digit.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0);
    port_is_valid && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let in_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    host.len() <= MAX_HOST && host.bytes().all(in_a_name)
}

/// Returns the address to dial for `address`: the same, unless its host is empty.
pub(super) fn to_dial(address: &str) -> String {
    match address.strip_prefix(':') {
        Some(port) => format!("localhost:{port}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for address in [
            "127.0.0.1:3250",
            "localhost:1",
            "game-1.nodes.example:65535",
            "game_1:3250",
            "[::1]:3250",
            "[2001:db8::7]:3250",
            ":3250",
        ] {
            assert!(is_dialable(address), "{address}");
        }
        for address in [
            "",
            ":",
            "nonsense",
            "not an address",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "127.0.0.1:+1",
            "127.0.0.1:3250 ",
            " 127.0.0.1:3250",
            "::1:3250",
            "[::1]",
            "[::1:3250",
            "[localhost]:3250",
            "http://a:3250",
            "a/b:3250",
            "a@b:3250",
            "a\0b:3250",
            "a\nb:3250",
            "ä:3250",
        ] {
            assert!(!is_dialable(address), "{address:?}");
        }
        assert!(!is_dialable(&format!("{}:1", "a".repeat(254))));
    }

    #[test]
    fn an_empty_host_is_this_machine() {
        assert_eq!(to_dial(":3250"), "localhost:3250");
        assert_eq!(to_dial("[::1]:3250"), "[::1]:3250");
    }
}
