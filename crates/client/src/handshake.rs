//! The client's side of the handshake.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};

use nano_protocol::{
    Error, Result, code,
    handshake::{OK, Reply, Request},
    kick::Kick,
    packet::{self, Decoder, Kind, Packet, PacketError},
};

use crate::{disconnect::DisconnectReason, transport::Transport};

/// The most messages, and the most bytes of them, in front of the handshake reply. Go nano pushes
/// to clients that have not shaken hands.
const MAX_EARLY: (usize, usize) = (1024, 1024 * 1024);

/// The first byte of the answer of a listener of TLS to anything else (RFC 8446, section 5.1).
const TLS_ALERT: u8 = 21;

/// Sends the request and waits for the reply. Bytes behind the reply stay in the decoder, messages in
/// front of it are appended to `early`.
///
/// # Errors
/// See [`Builder::connect`](crate::Builder::connect).
pub(crate) async fn exchange(
    transport: &mut Transport,
    decoder: &mut Decoder,
    request: &Request,
    early: &mut Vec<Bytes>,
) -> Result<Reply> {
    let mut outgoing = BytesMut::new();
    packet::encode(Kind::Handshake, &request.encode(), &mut outgoing)
        .map_err(|error| Error::from(error).recode(code::TOO_LARGE))?;
    poll_fn(|cx| transport.poll_write(cx, &mut outgoing))
        .await
        .map_err(|error| ended(&DisconnectReason::of_io(&error)))?;

    let reply = receive(transport, decoder, early).await?;
    if reply.code == OK {
        return Ok(reply);
    }
    let message = reply
        .message
        .unwrap_or_else(|| "the server refused the handshake".to_owned());
    Err(Error::new(reply.code.to_string(), message))
}

async fn receive(
    transport: &mut Transport,
    decoder: &mut Decoder,
    early: &mut Vec<Bytes>,
) -> Result<Reply> {
    loop {
        match decoder.decode() {
            Ok(Some(Packet {
                kind: Kind::Handshake,
                body,
            })) => {
                return Reply::decode(&body).map_err(|error| unexpected(&error.to_string()));
            }
            Ok(Some(Packet {
                kind: Kind::Kick,
                body,
            })) => return Err(ended(&DisconnectReason::Kicked(Kick::decode(&body).reason))),
            Ok(Some(Packet {
                kind: Kind::Data,
                body,
            })) if has_room(early) => early.push(body),
            Ok(Some(Packet {
                kind: Kind::Data, ..
            })) => return Err(unexpected("too many messages came first")),
            // Go nano sends heartbeats from the start.
            Ok(Some(_)) => {}
            Ok(None) => {
                match poll_fn(|cx| transport.poll_read(cx, |bytes| decoder.feed(bytes))).await {
                    Ok(0) if !early.is_empty() => return Err(unexpected("a message came first")),
                    Ok(0) => return Err(ended(&DisconnectReason::Server)),
                    Ok(_) => {}
                    Err(error) => return Err(ended(&DisconnectReason::of_io(&error))),
                }
            }
            Err(error) => return Err(unexpected(&format!("{error}{}", hint(&error)))),
        }
    }
}

/// What is probably wrong with the address when the reply begins so.
fn hint(error: &PacketError) -> &'static str {
    match error {
        PacketError::Kind(b'H') => " (HTTP: is the address one of ws:// or wss://?)",
        PacketError::Kind(TLS_ALERT) => " (TLS: is the address one of tls:// or wss://?)",
        _ => "",
    }
}

fn has_room(early: &[Bytes]) -> bool {
    let bytes: usize = early.iter().map(Bytes::len).sum();
    early.len() < MAX_EARLY.0 && bytes < MAX_EARLY.1
}

fn unexpected(fault: &str) -> Error {
    Error::new(
        code::BAD_REQUEST,
        format!("invalid handshake reply: {fault}"),
    )
}

fn ended(reason: &DisconnectReason) -> Error {
    match reason {
        DisconnectReason::Protocol(fault) => unexpected(fault),
        reason => Error::new(
            code::CLOSED,
            format!("connection lost during the handshake: {reason}"),
        ),
    }
}
