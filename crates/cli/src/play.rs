//! What commands that play as clients have in common.

use std::{fs::File, path::PathBuf, time::Duration};

use clap::Args;
use nano_client::{Builder, Client, Error, code};
use serde_json::Value;

use crate::{duration, failure::Failure};

/// How to connect.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connect {
    /// Trusts the certificates of this PEM file instead of the system's
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// How long a request may wait for its response
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
    /// Returns to the session after a lost connection, where the server allows it
    #[arg(long)]
    pub(crate) resume: bool,
}

impl Connect {
    /// Checks what needs no connection.
    ///
    /// # Errors
    /// The address or the file of certificates is not valid.
    pub(crate) fn check(&self, url: &str) -> Result<(), Failure> {
        Client::check_url(url).map_err(|error| Failure::Usage(error.to_string()))?;
        let Some(path) = &self.ca_file else {
            return Ok(());
        };
        let opened = File::open(path).map(drop);
        opened.map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))
    }

    /// The options of a connection. `user` is for the application's handshake check.
    pub(crate) fn builder(&self, user: Value) -> Builder {
        let builder = Client::builder()
            .handshake_user(user)
            .request_timeout(self.timeout)
            .resume(self.resume);
        match &self.ca_file {
            Some(path) => builder.ca_file(path),
            None => builder,
        }
    }
}

/// An argument in JSON.
pub(crate) fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

/// An error of a connection that was not made.
pub(crate) fn not_connected(url: &str, error: &Error) -> Failure {
    let text = format!("{url}: {error}");
    match error.code() {
        code::BAD_REQUEST | code::UNSUPPORTED => Failure::Usage(text),
        code::UNAVAILABLE | code::TIMEOUT | code::CLOSED => Failure::Unreachable(text),
        _ => Failure::Refused(text),
    }
}

/// Raises the limit on open files as far as the system allows: each client needs a socket.
#[cfg(unix)]
pub(crate) fn allow_open_files(clients: u32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let wanted = u64::from(clients) + 100;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = Rlimit {
        current: Some(current),
        maximum: limit.maximum,
    };
    if setrlimit(Resource::Nofile, raised).is_err() || current < wanted {
        eprintln!(
            "nano: {clients} clients need more open files than the system allows: see ulimit -n"
        );
    }
}

#[cfg(not(unix))]
pub(crate) fn allow_open_files(_: u32) {}
