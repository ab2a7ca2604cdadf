//! The signals that stop a process in order.

use crate::error::Result;

/// Resolves on SIGINT (Ctrl-C), SIGTERM or SIGQUIT. Signals count from this call on, also those
/// that arrive before the future is first polled.
///
/// # Errors
/// The system refuses to register a signal handler.
///
/// # Panics
/// Called outside of a runtime.
#[cfg(unix)]
pub(super) fn interrupted() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
        }
    })
}

/// Resolves on Ctrl-C.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub(super) fn interrupted() -> Result<impl Future<Output = ()>> {
    Ok(async {
        // If no handler can be registered, Ctrl-C ends the process by default.
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Calls of SIGHUP; none on other systems.
pub(super) struct Hangups {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    /// Handles the signal from now on if `enabled`; otherwise it ends the process, as without a
    /// handler.
    ///
    /// # Errors
    /// The system refuses to register a signal handler.
    ///
    /// # Panics
    /// Called outside of a runtime.
    #[cfg(unix)]
    pub(super) fn new(enabled: bool) -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let signal = enabled.then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Self { signal })
    }

    /// There is no such signal.
    ///
    /// # Errors
    /// None.
    #[cfg(not(unix))]
    pub(super) fn new(_enabled: bool) -> Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one, for ever if there is none.
    pub(super) async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
