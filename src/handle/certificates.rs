//! The certificates of a node's listeners.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{info, warn};

use crate::{
    error::{Error, Result, code},
    net::tls::ServerTls,
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

    pub(super) async fn reload(&self) -> Result {
        let all = self.0.read().clone();
        let reload = move || {
            let faults: Vec<_> = all.iter().filter_map(|tls| reload_one(tls).err()).collect();
            match faults.is_empty() {
                true => Ok(()),
                false => {
                    let texts: Vec<_> = faults.iter().map(Error::message).collect();
                    Err(Error::new(code::BAD_REQUEST, texts.join("; ")))
                }
            }
        };
        spawn_blocking(reload)
            .await
            .map_err(|error| Error::unavailable(error.to_string()))?
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

fn reload_one(tls: &ServerTls) -> Result {
    if tls.reload()? {
        let certificate = tls.certificate().map(|file| file.display().to_string());
        info!(certificate, "certificate reloaded");
    }
    Ok(())
}
