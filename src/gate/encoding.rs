//! Messages of a gate as packets.

use bytes::BytesMut;

use super::shared::Shared;
use crate::{
    error::{Error, Result},
    message::{self, Message},
    packet::{self, PacketError},
};

/// Bytes in front of the body of a response: the flag and the longest id.
const RESPONSE_HEAD: usize = 16;
/// The longest body of a response, in bytes.
pub(super) const MAX_RESPONSE: usize = packet::MAX_BODY - RESPONSE_HEAD;

/// Appends the packet of a response.
pub(super) fn response(
    id: u64,
    flagged: bool,
    body: &[u8],
    out: &mut BytesMut,
) -> Result<(), PacketError> {
    out.reserve(packet::HEADER + RESPONSE_HEAD + body.len());
    packet::encode_with(packet::Kind::Data, out, |out| {
        message::encode_response(id, flagged, body, out);
        Ok(())
    })
}

/// Appends the packet of a message.
pub(super) fn encode(message: &Message, gate: &Shared, out: &mut BytesMut) -> Result {
    packet::encode_with(packet::Kind::Data, out, |out| {
        Ok::<_, Error>(message.encode(&gate.dictionary, out)?)
    })
}
