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
