//! Which addresses of nodes can be dialled. No I/O.

use std::net::IpAddr;

use crate::net::address::{Host, HostPort};

/// Whether `address` is `host:port` as a node can be dialled: a name, an IPv4 address, or an IPv6
/// address in brackets, and a port other than 0.
///
/// An empty host stands for the same machine, as nano has always had it.
pub(super) fn is_dialable(address: &str) -> bool {
    let Ok(parsed) = address.parse::<HostPort>() else {
        return false;
    };
    // Others see the address as it is, so that no brackets can be added.
    let is_complete = address.starts_with('[') || address.matches(':').count() == 1;
    parsed.port != 0 && is_complete && !matches!(parsed.host, Host::Zoned(_))
}

/// Why other nodes cannot dial an address that is well-formed; `None` if they may.
pub(super) fn undialable(host: &Host) -> Option<&'static str> {
    match host {
        Host::Any => Some("other nodes cannot dial an address without a host"),
        Host::Ip(ip) if ip.is_unspecified() => {
            Some("other nodes cannot dial an unspecified address")
        }
        Host::Ip(ip) if ip.is_multicast() => Some("other nodes cannot dial a multicast address"),
        Host::Ip(IpAddr::V4(ip)) if ip.is_broadcast() => {
            Some("other nodes cannot dial a broadcast address")
        }
        Host::Ip(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
            Some("other nodes cannot dial a link-local address")
        }
        Host::Zoned(_) => Some("a zone is known on one machine only"),
        Host::Ip(_) | Host::Name(_) => None,
    }
}

/// Whether the address is one of the loopback interface, which no other machine can dial.
pub(super) fn is_loopback(address: &str) -> bool {
    let parsed = address.parse::<HostPort>();
    parsed.is_ok_and(|it| it.host == Host::Any || it.host.is_loopback())
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
            "::1:41011",
            "[fe80::1%eth0]:1",
            ":::34580",
            "0:34580",
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
