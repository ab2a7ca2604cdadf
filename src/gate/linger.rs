//! The last moments of a socket.

use std::{collections::VecDeque, future::poll_fn, io};

use tokio::time::timeout;

use super::client_state::FLUSH_TIMEOUT;
use crate::net::stream::Transport;

/// Ends a WebSocket with a close frame, shuts the outgoing direction down, and discards input until
/// the client closes its side, for at most [`FLUSH_TIMEOUT`]. A socket that is closed with unread
/// input is reset, and the reset can overtake the last packets.
pub(super) async fn linger<T: Transport>(mut transport: T, close_code: Option<u16>, reason: &str) {
    let end = async {
        transport.close(close_code, reason)?;
        let mut none = VecDeque::new();
        poll_fn(|cx| transport.poll_write(cx, &mut none, &mut 0)).await?;
        poll_fn(|cx| transport.poll_shutdown(cx)).await?;
        while poll_fn(|cx| transport.poll_discard(cx)).await? > 0 {}
        io::Result::Ok(())
    };
    // In time or not, the socket is closed now.
    let _ = timeout(FLUSH_TIMEOUT, end).await;
}
