//! In place of TLS where the feature `tls` is off.

use std::{io, path::PathBuf};

use nano_protocol::{Error, Result, code};
use tokio::net::TcpStream;

/// Never made: [`Config::new`] fails.
pub(crate) enum Config {}

impl Config {
    pub(crate) async fn new(_: String, _: Option<PathBuf>) -> Result<Self> {
        Err(Error::new(
            code::UNSUPPORTED,
            "tls:// and wss:// need the feature `tls`, which this program was built without",
        ))
    }

    pub(crate) async fn connect(self, _: TcpStream) -> io::Result<TcpStream> {
        match self {}
    }
}

/// Never called: no TLS fails.
pub(crate) fn hint(_: &io::Error) -> &'static str {
    ""
}
