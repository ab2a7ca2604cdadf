//! What the nodes of this process have logged.

use std::{
    io,
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;

/// Warnings and errors of all tests, with the messages they were logged in, what keeps sessions on a
/// gate that drains, and clients that are refused.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(
            "warn,nano::message=info,nano::gate::migration_out=info,nano::gate::refused=info",
        )
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    log
});

impl Log {
    /// Begins to capture, if no test has yet.
    pub(crate) fn captured() -> Self {
        LOG.clone()
    }

    /// The number of lines that contain all of these texts.
    pub(crate) fn count(&self, texts: &[&str]) -> usize {
        let log = self.0.lock();
        String::from_utf8_lossy(&log)
            .lines()
            .filter(|line| texts.iter().all(|text| line.contains(text)))
            .count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
