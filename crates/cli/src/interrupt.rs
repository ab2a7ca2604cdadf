//! Ctrl-C and SIGTERM, by which commands end in order.

use tokio::signal;

/// Completes with Ctrl-C or SIGTERM. From the first poll on neither ends the process.
pub(crate) async fn interrupted() {
    let interrupt = async {
        // Without a handler the signal ends the process.
        if signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    if let Ok(mut terminate) = signal::unix::signal(signal::unix::SignalKind::terminate()) {
        return tokio::select! {
            () = interrupt => {}
            _ = terminate.recv() => {}
        };
    }
    interrupt.await;
}
