//! Addresses of the form `host:port`, as options give them. No I/O.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The longest host name of the domain name system, in bytes.
const MAX_NAME: usize = 253;

/// A host and a port, as an option names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

/// The part of an address before the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// None, as in `:3250`: every address of the machine.
    Any,
    /// An IP address in its canonical form: IPv4 in IPv6 is IPv4.
    Ip(IpAddr),
    /// A link-local IPv6 address with its zone, such as `fe80::1%eth0`.
    Zoned(String),
    Name(String),
}

impl Host {
    /// Whether the host is this machine's loopback interface.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(ip) => ip.is_loopback(),
            Self::Name(name) => is_localhost(name),
            Self::Any | Self::Zoned(_) => false,
        }
    }
}

/// Whether the name is that of the loopback interface, whatever a resolver says (RFC 6761).
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
}

/// Returns the address as logs, limits and applications see it: IPv4 in IPv6, as a listener for both
/// families reports it, is IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_canonical() {
            ip @ IpAddr::V4(_) => SocketAddr::new(ip, v6.port()),
            IpAddr::V6(_) => address,
        },
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressError {
    address: String,
    fault: String,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid address {:?}: {}", self.address, self.fault)
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    /// Reads `host:port`, where the host is a name, an IP address, or empty.
    ///
    /// An IPv6 address has brackets. They may be left out where only one reading is possible:
    /// `::1:41011` is `[::1]:41011`, but `::1:4101` is an address without a port as well.
    fn from_str(address: &str) -> Result<Self, AddressError> {
        parse(address).map_err(|fault| AddressError {
            address: address.to_owned(),
            fault,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            Host::Any => write!(f, ":{port}"),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{port}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{port}"),
            Host::Zoned(ip) => write!(f, "[{ip}]:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

fn parse(address: &str) -> Result<HostPort, String> {
    if address.contains(char::is_whitespace) {
        return Err("it contains a space".to_owned());
    }
    if let Some((scheme, _)) = address.split_once("://") {
        return Err(format!("write host:port, without {scheme}://"));
    }
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err("no port, write host:port".to_owned());
    };
    if let Ok(ip) = address.parse::<Ipv6Addr>() {
        // The last group may have been meant as the port.
        let meant = match host.parse::<Ipv6Addr>() {
            Ok(ip) if parse_port(port).is_ok() => format!("[{ip}]:{port} or [{address}]:port"),
            _ => format!("[{ip}]:port"),
        };
        return Err(format!("an IPv6 address needs brackets, write {meant}"));
    }
    if address.ends_with(']') {
        return Err(format!("no port, write {address}:port"));
    }
    Ok(HostPort {
        port: parse_port(port)?,
        host: parse_host(host)?,
    })
}

fn parse_port(port: &str) -> Result<u16, String> {
    let wrong = || format!("the port must be a number from 0 to 65535, not {port:?}");
    if !port.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    port.parse().map_err(|_| wrong())
}

fn parse_host(host: &str) -> Result<Host, String> {
    if host.is_empty() {
        return Ok(Host::Any);
    }
    if let Some(rest) = host.strip_prefix('[') {
        let inner = rest
            .strip_suffix(']')
            .ok_or("a bracket is missing, write [address]:port")?;
        return parse_v6(inner).ok_or_else(|| format!("{inner:?} is not an IPv6 address"));
    }
    if host.contains(':') {
        return parse_v6(host)
            .ok_or_else(|| "an IPv6 address needs brackets, write [address]:port".to_owned());
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    if ends_in_a_number(host) {
        // Resolvers read `0`, `127.1` and `010.0.0.1` in unexpected ways.
        return Err(format!("{host:?} is not an IPv4 address"));
    }
    let in_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !host.bytes().all(in_a_name) {
        return Err(format!(
            "a host name has letters, digits, dots and hyphens only, not {host:?}"
        ));
    }
    if host.len() > MAX_NAME {
        return Err(format!("a host name has at most {MAX_NAME} bytes"));
    }
    Ok(Host::Name(host.to_owned()))
}

fn parse_v6(host: &str) -> Option<Host> {
    let (ip, zone) = match host.split_once('%') {
        None => (host, None),
        Some((ip, zone)) => (ip, Some(zone)),
    };
    let ip: Ipv6Addr = ip.parse().ok()?;
    match zone {
        None => Some(Host::Ip(IpAddr::V6(ip).to_canonical())),
        Some(zone) if !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Some(Host::Zoned(host.to_owned()))
        }
        Some(_) => None,
    }
}

/// Whether the last label is a number, decimal or hexadecimal. No domain name is like that.
fn ends_in_a_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str) -> Result<String, String> {
        let parsed: Result<HostPort, _> = address.parse();
        parsed
            .map(|it| it.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_have_one_canonical_form() {
        for (address, canonical) in [
            ("127.0.0.1:3250", "127.0.0.1:3250"),
            (":3250", ":3250"),
            (":0", ":0"),
            ("localhost:65535", "localhost:65535"),
            ("game_1.nodes.example:1", "game_1.nodes.example:1"),
            ("example.:1", "example.:1"),
            ("[::1]:3250", "[::1]:3250"),
            ("[0:0::1]:3250", "[::1]:3250"),
            ("[2001:DB8::7]:3250", "[2001:db8::7]:3250"),
            ("[::ffff:10.0.0.1]:3250", "10.0.0.1:3250"),
            ("[fe80::1%eth0]:3250", "[fe80::1%eth0]:3250"),
            // Without brackets, where only one reading is possible.
            ("::1:41011", "[::1]:41011"),
            ("fd00::5:34580", "[fd00::5]:34580"),
            (":::34580", "[::]:34580"),
            (":::3250", "[::]:3250"),
            ("1:2:3:4:5:6:7:8:80", "[1:2:3:4:5:6:7:8]:80"),
        ] {
            assert_eq!(parsed(address).as_deref(), Ok(canonical), "{address}");
        }
    }

    #[test]
    fn a_fault_is_named_and_shows_the_right_form() {
        for (address, fault) in [
            ("", "no port, write host:port"),
            (":", "from 0 to 65535, not \"\""),
            ("nonsense", "no port, write host:port"),
            ("10.0.0.1", "no port"),
            ("10.0.0.1:", "not \"\""),
            ("10.0.0.1:65536", "not \"65536\""),
            ("10.0.0.1:-1", "not \"-1\""),
            ("10.0.0.1:+1", "not \"+1\""),
            ("10.0.0.1:http", "not \"http\""),
            ("10.0.0.1:٣", "not \"٣\""),
            ("10.0.0.1:3250 ", "a space"),
            (" 10.0.0.1:3250", "a space"),
            ("not an address", "a space"),
            ("10.0.0.1:3250\n", "a space"),
            ("http://10.0.0.1:34580", "without http://"),
            ("tcp://:1", "without tcp://"),
            ("::1:4101", "write [::1]:4101 or [::1:4101]:port"),
            ("fd00::5", "write [fd00::5]:port"),
            ("::", "write [::]:port"),
            ("[::1]", "write [::1]:port"),
            ("[::1:3250", "a bracket is missing"),
            ("[localhost]:3250", "not an IPv6 address"),
            ("[127.0.0.1]:3250", "not an IPv6 address"),
            ("[::1%]:3250", "not an IPv6 address"),
            ("a:b:3250", "needs brackets"),
            ("0:34580", "\"0\" is not an IPv4 address"),
            ("127.1:1", "not an IPv4 address"),
            ("256.1.1.1:1", "not an IPv4 address"),
            ("010.0.0.1:1", "not an IPv4 address"),
            ("0x7f.0x1:1", "not an IPv4 address"),
            ("a/b:3250", "a host name has"),
            ("a@b:3250", "a host name has"),
            ("a\0b:3250", "a host name has"),
            ("ä:3250", "a host name has"),
        ] {
            let error = parsed(address).unwrap_err();
            assert!(error.contains(fault), "{address:?}: {error}");
            assert!(error.contains(&format!("{address:?}")), "{error}");
        }
        assert!(parsed(&format!("{}:1", "a".repeat(254))).is_err());
    }

    #[test]
    fn loopback_is_recognized_by_name_and_by_address() {
        for (address, is_loopback) in [
            ("localhost:1", true),
            ("LOCALHOST.:1", true),
            ("127.8.8.8:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            (":1", false),
            ("0.0.0.0:1", false),
            ("localhost.example:1", false),
        ] {
            let parsed: HostPort = address.parse().unwrap();
            assert_eq!(parsed.host.is_loopback(), is_loopback, "{address}");
        }
    }
}
