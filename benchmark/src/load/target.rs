//! Where the load goes: `tcp://127.0.0.1:3250`, `tls://...`, `ws://127.0.0.1:3250/nano`,
//! `wss://...`; `due://...` for a gate of due.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
};

#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) tls: bool,
    /// Whether it speaks the protocol of due.
    pub(crate) due: bool,
    /// The path, if it is a WebSocket.
    pub(crate) path: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("tcp", url));
        let (host, path) = rest
            .find('/')
            .map_or((rest, "/"), |slash| rest.split_at(slash));
        let (tls, path) = match scheme {
            "tcp" | "due" => (false, None),
            "tls" => (true, None),
            "ws" => (false, Some(path.to_owned())),
            "wss" => (true, Some(path.to_owned())),
            _ => return Err(format!("not tcp, tls, ws, wss or due: {url}")),
        };
        let address = host
            .to_socket_addrs()
            .map_err(|error| format!("{host}: {error}"))?
            .next();
        Ok(Self {
            address: address.ok_or_else(|| format!("no address: {host}"))?,
            host: host.to_owned(),
            tls,
            due: scheme == "due",
            path,
        })
    }
}
