//! A client that waits for a check of the application, and the refusal of one.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use metrics::Counter;
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use super::{
    close_code::Ending, handle::ConnectionHandle, handshake_check::Accept, resume_handshake::Offer,
};
use crate::{
    error::{Error, Result, code},
    handshake::Reply,
    kick::Kick,
    net::stream::Transport,
    packet::{Decoder, Kind},
    session::{CloseReason, Session},
};

/// A check under way, and what follows it.
pub(super) struct Pending {
    pub(super) check: PendingCheck,
    pub(super) then: Then,
}

/// What follows a check.
pub(super) enum Then {
    /// The handshake is answered. What the client has asked for is granted with the reply, so that a
    /// client that is refused, or goes before, leaves no session behind.
    Reply(Offer),
    /// The session is open.
    Open,
}

impl Then {
    pub(super) fn take(&mut self) -> Self {
        mem::replace(self, Self::Open)
    }
}

impl Pending {
    /// Ready with the result of the check. Meanwhile input is read, as much as one packet may have,
    /// to notice a client that goes.
    ///
    /// # Errors
    /// Why the connection ends before.
    pub(super) fn poll<T: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut T,
        decoder: &mut Decoder,
        handle: &ConnectionHandle,
    ) -> Poll<Result<Result<Accept>, Ending>> {
        let check = &mut self.check;
        if let Poll::Ready(result) = check.poll(cx, &handle.gate.metrics.panics) {
            return Poll::Ready(Ok(result));
        }
        while check.reads_ahead(handle.gate.limits.max_packet()) {
            match ready!(transport.poll_read(cx, decoder)) {
                Ok(0) => return Poll::Ready(Err(CloseReason::Client.into())),
                Ok(count) => {
                    handle.received(count);
                    check.add_input(count);
                }
                Err(error) => return Poll::Ready(Err(Ending::of_io(&error))),
            }
        }
        Poll::Pending
    }
}

/// A check under way, on the application's runtime. Dropping it cancels the check.
pub(super) struct PendingCheck {
    task: JoinHandle<Result<Accept>>,
    begun: Instant,
    /// Bytes of input that were read meanwhile.
    read_ahead: usize,
}

impl PendingCheck {
    /// Starts the check. It fails with `timed_out` if it takes longer than `within`.
    pub(super) fn start(
        runtime: &Handle,
        check: impl Future<Output = Result<Accept>> + Send + 'static,
        within: Duration,
        timed_out: Error,
        now: Instant,
    ) -> Self {
        let check = async move {
            let result = timeout(within, check).await;
            result.unwrap_or(Err(timed_out))
        };
        Self {
            task: runtime.spawn(check),
            begun: now,
            read_ahead: 0,
        }
    }

    /// Ready with the result of the check. A panic is counted and refuses the client.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, panics: &Counter) -> Poll<Result<Accept>> {
        let result = ready!(Pin::new(&mut self.task).poll(cx));
        Poll::Ready(result.unwrap_or_else(|error: JoinError| {
            if error.is_panic() {
                panics.increment(1);
                return Err(Error::new(code::INTERNAL, "panicked"));
            }
            Err(Error::new(code::UNAVAILABLE, "the runtime has shut down"))
        }))
    }

    /// How long the check has taken.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// Whether more input may be read while the check runs, to notice a client that goes.
    pub(super) fn reads_ahead(&self, limit: usize) -> bool {
        self.read_ahead < limit
    }

    /// Counts input that was read while the check runs.
    pub(super) fn add_input(&mut self, bytes: usize) {
        self.read_ahead += bytes;
    }
}

impl Drop for PendingCheck {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Queues a refusal if the error's code is a number, as pomelo does: 501 is for a client that is
/// too old. Otherwise the connection closes without a reply, as in Go nano.
pub(super) fn refuse(handle: &ConnectionHandle, error: Error) -> Ending {
    if let Ok(code) = error.code().as_str().parse() {
        let refusal = Reply::refusal(code, error.message()).encode();
        handle.send_control(Kind::Handshake, &refusal);
    }
    // Close callbacks and the log get the text of a foreign error, too.
    CloseReason::HandshakeRefused(error.expose().message().to_owned()).into()
}

/// Ends a session that the application does not let open, with a kick.
pub(super) fn refuse_open(session: &Session, error: Error) -> Ending {
    // The text of a foreign error is not for clients.
    let kick = Kick::new(error.code().as_str(), error.message());
    let error = error.expose();
    let id = session.id();
    if error.code() == code::INTERNAL {
        warn!(session = id, %error, "session not opened");
    } else {
        debug!(session = id, %error, "session refused");
    }
    CloseReason::KickedWith(kick).into()
}
