//! A handshake that waits for its check, and the refusal of one.

use std::task::{Context, Poll, ready};

use super::{
    ending::Ending,
    handle::ConnectionHandle,
    handshake_check::{Accept, PendingCheck},
    resumption::Offer,
    shared::Shared,
};
use crate::{
    error::{Error, Result},
    handshake::Reply,
    net::stream::Transport,
    packet::{Decoder, Kind},
    session::CloseReason,
};

/// A handshake that is answered after its check.
pub(super) struct Unanswered {
    pub(super) check: PendingCheck,
    /// What the client has asked for. Granted with the reply, so that a client that is refused, or
    /// goes before, leaves no session behind.
    pub(super) offer: Offer,
}

impl Unanswered {
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
        gate: &Shared,
    ) -> Poll<Result<Result<Accept>, Ending>> {
        let check = &mut self.check;
        if let Poll::Ready(result) = check.poll(cx, &gate.metrics.panics) {
            return Poll::Ready(Ok(result));
        }
        while check.reads_ahead(gate.limits.max_packet()) {
            match ready!(transport.poll_read(cx, decoder)) {
                Ok(0) => return Poll::Ready(Err(CloseReason::Client.into())),
                Ok(count) => {
                    gate.metrics.bytes_received.increment(count as u64);
                    check.add_input(count);
                }
                Err(error) => return Poll::Ready(Err(Ending::of_io(&error))),
            }
        }
        Poll::Pending
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
