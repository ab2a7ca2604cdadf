//! The address of an admin server.

use std::{fmt, str::FromStr};

/// A URL in its parts.
#[derive(Debug, PartialEq)]
pub(super) struct Address {
    pub(super) tls: bool,
    /// The host, without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// The host and port, as in the URL.
    pub(crate) authority: String,
    /// What a proxy has put before the paths; without a slash at its end.
    pub(super) prefix: String,
}

impl FromStr for Address {
    type Err = String;

    /// Takes `http://host:port`, `https://host`, and `host:port`.
    fn from_str(url: &str) -> Result<Self, String> {
        let invalid = || format!("{url:?} is not an address such as http://127.0.0.1:9470");
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (tls, default_port) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(invalid()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let in_url = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@');
        if authority.is_empty() || !rest.bytes().all(in_url) {
            return Err(invalid());
        }
        let after_host = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[after_host..].rfind(':') {
            None => (authority, default_port),
            Some(at) => {
                let (host, port) = authority.split_at(after_host + at);
                (host, port[1..].parse().map_err(|_| invalid())?)
            }
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if host.is_empty() || (bare.is_none() && host.contains([':', '[', ']'])) {
            return Err(invalid());
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            prefix: path.trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_or_hosts_with_a_port() {
        for (url, tls, host, port, prefix) in [
            ("http://127.0.0.1:9470", false, "127.0.0.1", 9470, ""),
            ("localhost:1/", false, "localhost", 1, ""),
            (
                "https://ops.example/gate/",
                true,
                "ops.example",
                443,
                "/gate",
            ),
            ("http://[::1]:9470", false, "::1", 9470, ""),
            ("[::1]", false, "::1", 80, ""),
        ] {
            let address: Address = url.parse().unwrap();
            let parts = (
                address.tls,
                address.host.as_str(),
                address.port,
                address.prefix.as_str(),
            );
            assert_eq!(parts, (tls, host, port, prefix), "{url}");
        }
        for url in [
            "",
            "http://",
            "ftp://x",
            "http://x:99999",
            "http://x:",
            "http://:1",
            "http://a b",
            "::1",
            "http://u@h",
            "http://x/?a",
            "http://[::1",
            "http://x\r\nA: b",
        ] {
            assert!(url.parse::<Address>().is_err(), "{url}");
        }
    }
}
