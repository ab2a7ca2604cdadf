//! The certificates of a node: of its listeners, and towards other nodes.

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

/// Reads files again. Returns what takes them if they have changed and are valid. Blocks on the disk.
pub(crate) type ReadCertificates =
    Box<dyn Fn() -> Result<Option<Box<dyn FnOnce() + Send>>> + Send + Sync>;

/// The TLS of each listener that reads it from files, and of the cluster.
pub(crate) struct Certificates {
    listeners: RwLock<Vec<Arc<ServerTls>>>,
    /// `None` without TLS between nodes.
    cluster: Option<ReadCertificates>,
}

impl Certificates {
    pub(super) fn new(cluster: Option<ReadCertificates>) -> Self {
        Self {
            listeners: RwLock::default(),
            cluster,
        }
    }

    /// Adds a listener's; returns whether it is the first.
    pub(crate) fn add(&self, tls: Arc<ServerTls>) -> bool {
        let mut all = self.listeners.write();
        all.push(tls);
        all.len() == 1
    }

    /// Takes all changed files of listeners that are valid.
    ///
    /// # Errors
    /// Names the files that are not. Their listeners keep the old certificate.
    pub(super) async fn reload(&self) -> Result {
        let all = self.listeners.read().clone();
        let reload = move || {
            let (changed, faults) = read_again(all);
            changed.apply();
            faults
        };
        spawn_blocking(reload)
            .await
            .map_err(|error| Error::unavailable(error.to_string()))?
    }

    /// Reads all changed files, those of the cluster too, for a change that takes all of them or none. Blocks on the disk.
    ///
    /// # Errors
    /// Names the files that are not valid.
    pub(super) fn prepare(&self) -> Result<ChangedCertificates> {
        let (mut changed, faults) = read_again(self.listeners.read().clone());
        let cluster = self.cluster.as_ref().map(|read| read());
        match (faults, cluster) {
            (Ok(()), None) => {}
            (Ok(()), Some(cluster)) => changed.cluster = cluster?,
            (Err(fault), Some(Err(other))) => {
                let all = format!("{}; {}", fault.message(), other.message());
                return Err(Error::new(code::BAD_REQUEST, all));
            }
            (Err(fault), _) => return Err(fault),
        }
        Ok(changed)
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
pub(super) struct ChangedCertificates {
    listeners: Vec<(Arc<ServerTls>, NewCertificate)>,
    cluster: Option<Box<dyn FnOnce() + Send>>,
}

impl ChangedCertificates {
    pub(super) fn apply(self) {
        if let Some(take) = self.cluster {
            take();
        }
        for (tls, new) in self.listeners {
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
    let changed = ChangedCertificates {
        listeners: changed,
        cluster: None,
    };
    (changed, faults)
}
