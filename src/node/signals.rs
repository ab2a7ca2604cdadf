//! The signals that stop a process in order.

use crate::error::Result;

/// A signal that stops a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM, which service managers send.
    Terminate,
    /// SIGINT (Ctrl-C) or SIGQUIT.
    Interrupt,
}

/// SIGINT (Ctrl-C), SIGTERM and SIGQUIT; Ctrl-C alone on other systems.
pub(super) struct Interrupts {
    #[cfg(unix)]
    signals: [(Signal, tokio::signal::unix::Signal); 3],
}

impl Interrupts {
    /// Handles the signals from now on, also those that arrive before the first wait.
    ///
    /// # Errors
    /// The system refuses to register a signal handler.
    ///
    /// # Panics
    /// Called outside of a runtime.
    #[cfg(unix)]
    pub(super) fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self {
            signals: [
                (Signal::Terminate, signal(SignalKind::terminate())?),
                (Signal::Interrupt, signal(SignalKind::interrupt())?),
                (Signal::Interrupt, signal(SignalKind::quit())?),
            ],
        })
    }

    /// Handles Ctrl-C.
    ///
    /// # Errors
    /// None.
    #[cfg(not(unix))]
    pub(super) fn new() -> Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (kind, signal) in &mut self.signals {
                if signal.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*kind);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Waits for the next one.
    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) -> Signal {
        // If no handler can be registered, Ctrl-C ends the process by default.
        let _ = tokio::signal::ctrl_c().await;
        Signal::Interrupt
    }
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
