//! The address of a server.

use std::str::FromStr;

use tokio_tungstenite::tungstenite::http::Uri;

use nano_protocol::{Error, code};

/// An address of the form `tcp://host:port`, `tls://..`, `ws://host[:port]/path` or `wss://..`.
#[derive(Debug)]
pub(crate) struct Address {
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// The URI of the WebSocket upgrade; `None` for a plain stream.
    pub(crate) websocket: Option<Uri>,
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let wrong = |fault: &str| {
            Error::new(
                code::BAD_REQUEST,
                format!("invalid address {url:?}: {fault}"),
            )
        };
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        let (tls, default_port) = match uri.scheme_str() {
            Some("tcp") => (false, None),
            Some("tls") => (true, None),
            Some("ws") => (false, Some(80)),
            Some("wss") => (true, Some(443)),
            _ => {
                return Err(wrong(
                    "it does not start with tcp://, tls://, ws:// or wss://",
                ));
            }
        };
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| wrong("no host"))?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
            .to_owned();
        let port = uri
            .port_u16()
            .or(default_port)
            .ok_or_else(|| wrong("no port"))?;
        if default_port.is_some() {
            return Ok(Self {
                host,
                port,
                tls,
                websocket: Some(uri),
            });
        }
        if uri.path_and_query().is_some_and(|path| path != "/") {
            return Err(wrong("only WebSocket addresses have a path"));
        }
        Ok(Self {
            host,
            port,
            tls,
            websocket: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_all_kinds_are_understood() {
        for (url, host, port, tls, path) in [
            ("tcp://127.0.0.1:3250", "127.0.0.1", 3250, false, None),
            ("tls://example.com:3250/", "example.com", 3250, true, None),
            ("ws://example.com", "example.com", 80, false, Some("/")),
            (
                "wss://example.com/nano?a=b",
                "example.com",
                443,
                true,
                Some("/nano?a=b"),
            ),
            ("wss://[::1]:9/nano", "::1", 9, true, Some("/nano")),
        ] {
            let address: Address = url.parse().unwrap();
            assert_eq!(
                (&*address.host, address.port, address.tls),
                (host, port, tls),
                "{url}"
            );
            assert_eq!(
                address
                    .websocket
                    .as_ref()
                    .and_then(Uri::path_and_query)
                    .map(|path| path.as_str()),
                path,
                "{url}"
            );
        }
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (url, fault) in [
            ("", "empty"),
            ("127.0.0.1:3250", "tcp://"),
            ("http://a:1", "tcp://"),
            ("tcp://a", "no port"),
            ("tls://a/", "no port"),
            ("tcp://a:1/nano", "path"),
            ("tcp://a:1?x", "path"),
            ("tcp://a:70000", "no port"),
            ("ws:///nano", "invalid"),
        ] {
            let error = url.parse::<Address>().unwrap_err();
            assert_eq!(error.code(), code::BAD_REQUEST);
            assert!(
                error.message().contains(&format!("{url:?}")) && error.message().contains(fault),
                "{error}"
            );
        }
    }
}
