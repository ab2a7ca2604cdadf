//! What a running node reads again: its configuration and its certificates.

use tokio::task::spawn_blocking;

use super::{
    certificates::Certificates,
    node_handle::{Handle, Inner, Reload},
};
#[cfg(feature = "config")]
use crate::channel::ChannelLimits;
use crate::error::{Error, Result, code};

impl Handle {
    /// Reads the certificate files of all listeners again, and uses those that have changed for the
    /// connections that follow. Open connections keep what they have.
    ///
    /// The node does so by itself every minute. Files that are replaced one after the other may be
    /// read when the key does not match the certificate yet: that is an error, and the next time
    /// they match.
    ///
    /// # Errors
    /// Names the files that are missing or invalid. Their listeners keep the old certificate.
    pub async fn reload_certificates(&self) -> Result {
        self.0.certificates.reload().await
    }

    /// Reads the configuration again that the node was started with, and the certificate files, also
    /// those of [`ClusterTls`](crate::ClusterTls).
    ///
    /// Limits, most time-outs, denied networks and certificates change at once; the functions of
    /// `Config::on_reload` take the rest. Keys whose values differ from those that the node runs with, and need
    /// a restart, are logged and returned.
    ///
    /// # Errors
    /// Lists what is wrong with the configuration, or names the certificate files that are: then
    /// nothing changes. [`code::NOT_FOUND`] if the node was not started with a configuration from a
    /// file or the environment.
    pub async fn reload(&self) -> Result<Vec<String>> {
        let reload = self.0.reload().cloned().ok_or_else(|| {
            Error::new(
                code::NOT_FOUND,
                "the node was started without a configuration",
            )
        })?;
        let node = self.clone();
        let all_or_nothing = move || {
            let certificates = node.certificates().prepare()?;
            let needs_restart = reload(&node)?;
            certificates.apply();
            Ok(needs_restart)
        };
        spawn_blocking(all_or_nothing)
            .await
            .map_err(|error| Error::unavailable(error.to_string()))?
    }

    /// Changes how many tasks may wait on each scheduler.
    #[cfg(feature = "config")]
    pub(crate) fn set_scheduler_capacity(&self, tasks: usize) {
        self.0.schedulers.set_capacity(tasks);
    }

    /// Changes how many channels there may be.
    #[cfg(feature = "config")]
    pub(crate) fn set_channel_limits(&self, limits: ChannelLimits) {
        let parts = self.0.parts.get();
        if let Some(channels) = parts.and_then(|parts| parts.channels.upgrade()) {
            channels.set_limits(limits);
        }
    }

    /// Whether there is a configuration to read again.
    pub(crate) fn can_reload(&self) -> bool {
        self.0.reload().is_some()
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        &self.0.certificates
    }
}

impl Inner {
    fn reload(&self) -> Option<&Reload> {
        self.parts.get()?.reload.as_ref()
    }
}
