//! The certificates of a node's listeners.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{info, warn};

use crate::{
    error::{Error, Result, code},
    net::tls::{NewCertificate, ServerTls},
};

/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The TLS of each listener that reads it from files.
#[derive(Debug, Default)]
pub(crate) struct Certificates(RwLock<Vec<Arc<ServerTls>>>);

impl Certificates {
    /// Adds a listener's; returns whether it is the first.
    pub(crate) fn add(&self, tls: Arc<ServerTls>) -> bool {
        let mut all = self.0.write();
        all.push(tls);
        all.len() == 1
    }

    /// Takes all changed files that are valid.
    ///
    /// # Errors
    /// Names the files that are not. Their listeners keep the old certificate.
    pub(super) async fn reload(&self) -> Result {
        let all = self.0.read().clone();
        let reload = move || {
            let (changed, faults) = read_again(all);
            changed.apply();
            faults
        };
        spawn_blocking(reload)
            .await
            .map_err(|error| Error::unavailable(error.to_string()))?
    }

    /// Reads all changed files, for a change that takes all of them or none. Blocks on the disk.
    ///
    /// # Errors
    /// Names the files that are not valid.
    pub(super) fn prepare(&self) -> Result<ChangedCertificates> {
        let (changed, faults) = read_again(self.0.read().clone());
        faults.map(|()| changed)
    }

    /// Reads changed files for ever. A fault is logged once for each change of the files.
    pub(crate) async fn follow_files(&self) {
        let mut last = String::new();
        loop {
            sleep(CHECK_INTERVAL).await;
            let fault = self.reload().await.err().map(|error| error.to_string());
            if let Some(error) = fault.as_ref().filter(|error| **error != last) {
                warn!(error, "certificate not reloaded, keeping the old one");
            }
            last = fault.unwrap_or_default();
        }
    }
}

/// Certificates that were read and are not in use yet.
pub(super) struct ChangedCertificates(Vec<(Arc<ServerTls>, NewCertificate)>);

impl ChangedCertificates {
    pub(super) fn apply(self) {
        for (tls, new) in self.0 {
            tls.replace(new);
            let certificate = tls.certificate().map(|file| file.display().to_string());
            info!(certificate, "certificate reloaded");
        }
    }
}

/// Returns the certificates that have changed and are valid, and the faults of the others.
fn read_again(all: Vec<Arc<ServerTls>>) -> (ChangedCertificates, Result) {
    let (mut changed, mut faults) = (Vec::new(), Vec::new());
    for tls in all {
        match tls.read_again() {
            Ok(new) => changed.extend(new.map(|new| (tls, new))),
            Err(fault) => faults.push(fault.message().to_owned()),
        }
    }
    let faults = match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::new(code::BAD_REQUEST, faults.join("; "))),
    };
    (ChangedCertificates(changed), faults)
}
