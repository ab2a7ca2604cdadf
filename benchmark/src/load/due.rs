//! The protocol of due: a size, a header, the number of a route, the number of a message, a body. A
//! client needs no handshake.

use std::io;

use super::wire::{Incoming, malformed};

/// Bytes before a body: its size in four, the header, the route in two, the number in four.
const HEADER: usize = 11;
/// Bytes of those that the size counts.
const COUNTED: usize = HEADER - 4;
/// The bit of heartbeats in the header.
const HEARTBEAT: u8 = 0x80;

/// What stands before a body of this size.
pub(crate) fn header(route: u16, seq: u32, size: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&((COUNTED + size) as u32).to_be_bytes());
    header[5..7].copy_from_slice(&route.to_be_bytes());
    header[7..].copy_from_slice(&seq.to_be_bytes());
    header
}

/// Takes one response off the front of `stream`, and heartbeats before it; `None` if it is not
/// complete.
pub(crate) fn take_response<'a>(stream: &mut &'a [u8]) -> io::Result<Option<Incoming<'a>>> {
    while let Some((size, rest)) = stream.split_first_chunk() {
        let size = u32::from_be_bytes(*size) as usize;
        let Some((message, rest)) = rest.split_at_checked(size) else {
            return Ok(None);
        };
        *stream = rest;
        match message {
            [] => {}
            [header, ..] if header & HEARTBEAT != 0 => {}
            [_, _, _, a, b, c, d, body @ ..] => {
                let id = u32::from_be_bytes([*a, *b, *c, *d]).into();
                let error = false;
                return Ok(Some(Incoming::Response { id, error, body }));
            }
            _ => return Err(malformed("half a message")),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn responses_are_taken_one_by_one_and_heartbeats_skipped() {
        let heartbeat = [0, 0, 0, 9, HEARTBEAT, 1, 2, 3, 4, 5, 6, 7, 8];
        let response = [&header(1, 70_000, 4)[..], b"body"].concat();
        let all = [&heartbeat[..], &response, &[0; 4], &response].concat();
        let mut stream = &all[..];
        for _ in 0..2 {
            assert_eq!(
                take_response(&mut stream).unwrap(),
                Some(Incoming::Response {
                    id: 70_000,
                    error: false,
                    body: b"body"
                })
            );
        }
        assert!(stream.is_empty());
        assert_eq!(take_response(&mut &response[..14]).unwrap(), None);
        assert!(take_response(&mut &[0, 0, 0, 2, 0, 0][..]).is_err());
    }
}
