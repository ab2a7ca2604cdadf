//! The options of a node's admin server.

use std::{fmt, sync::Arc};

#[cfg(feature = "logs")]
use crate::admin::Logs;
use crate::{
    admin::{Settings, WarningLog},
    error::Result,
};

/// A node's admin server: its address, its token, and what it may change.
///
/// Without a token it answers reads of loopback peers, and takes no actions. With one, requests that
/// carry it as `Authorization: Bearer <token>` may read from anywhere, and act.
///
/// ```
/// use nano::{Admin, App};
///
/// let admin = Admin::new("0.0.0.0:9470").token("a long secret").host("node7.example.org");
/// let app = App::new().admin(admin);
/// # let _ = app;
/// ```
#[must_use = "has no effect until it is given to `App::admin`"]
pub struct Admin {
    pub(super) settings: Settings,
}

impl Admin {
    /// An admin server at an address such as `127.0.0.1:9470`; port 0 lets the system choose.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            settings: Settings::new(address.into()),
        }
    }

    /// The secret of those who may read from other machines, and act: at least one visible ASCII
    /// character. The environment variable `NANO_ADMIN_TOKEN` unless set.
    ///
    /// It travels unencrypted: put a proxy with TLS in front where others can listen.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.settings.token = Some(token.into());
        self
    }

    /// Adds a host name by which loopback peers may address the server, beside IP addresses and
    /// `localhost`: a proxy on the same machine may use one. Requests without the token and with
    /// another name in `Host` are refused, so that a page of another site cannot read by rebinding
    /// its name.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.settings.hosts.push(name.into().to_ascii_lowercase());
        self
    }

    /// Sets the function that changes the log filter of the program, such as that of
    /// `tracing_subscriber::reload`. It runs on the admin server's thread and must not block.
    ///
    /// # Errors
    /// An error of the function, for a filter that is not valid, is the answer of the action.
    pub fn on_log_filter(
        mut self,
        change: impl Fn(&str) -> Result + Send + Sync + 'static,
    ) -> Self {
        self.settings.log_filter.change = Some(Arc::new(change));
        self
    }

    /// Sets the function that returns the log filter in force, which the dashboard shows before and
    /// after a change. It runs on the admin server's thread and must not block.
    pub fn log_filter(mut self, current: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.settings.log_filter.read = Some(Arc::new(current));
        self
    }

    /// Shows the warnings of the program's log, and its filter, which operators may change.
    #[cfg(feature = "logs")]
    pub fn logs(self, logs: &Logs) -> Self {
        let (changed, current) = (logs.clone(), logs.clone());
        self.warnings(logs.warnings())
            .on_log_filter(move |filter| changed.set_filter(filter))
            .log_filter(move || current.filter())
    }

    /// Shows the warnings and errors that this log has collected.
    pub fn warnings(mut self, log: &WarningLog) -> Self {
        self.settings.warnings = Some(log.clone());
        self
    }
}

impl From<&str> for Admin {
    fn from(address: &str) -> Self {
        Self::new(address)
    }
}

impl From<String> for Admin {
    fn from(address: String) -> Self {
        Self::new(address)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("address", &self.settings.address)
            .field("hosts", &self.settings.hosts)
            .finish_non_exhaustive()
    }
}
