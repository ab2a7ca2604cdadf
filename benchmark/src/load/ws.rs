//! WebSocket, as little of it as a client of a game server needs: one binary frame for each packet,
//! control frames ignored.

use std::io;

use super::wire::malformed;

const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;
const CLOSE: u8 = 0x8;
/// Not a secret: it is there because servers must undo it.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// The request that turns an HTTP connection into a WebSocket.
pub(crate) fn upgrade(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// The length of the head of the answer, once all of it is there.
///
/// # Errors
/// When the server refuses.
pub(crate) fn upgraded(answer: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    if !answer.starts_with(b"HTTP/1.1 101") {
        return Err(malformed(&format!(
            "{:?}",
            String::from_utf8_lossy(&answer[..end])
        )));
    }
    Ok(Some(end + 4))
}

/// Starts a frame of `size` bytes; what is appended next goes through [`mask`].
pub(crate) fn begin_frame(size: usize, out: &mut Vec<u8>) {
    out.push(BINARY);
    match size {
        0..126 => out.push(MASKED | size as u8),
        126..=0xFFFF => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
}

pub(crate) fn mask(payload: &mut [u8]) {
    for chunk in payload.chunks_mut(MASK.len()) {
        chunk
            .iter_mut()
            .zip(MASK)
            .for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// Takes the frames of a server apart, whatever pieces they come in.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The start of a header that is not complete.
    header: Vec<u8>,
    /// What is still to come of the current payload.
    remaining: usize,
    skip: bool,
}

impl Frames {
    /// Appends the payload of data frames in `input` to `out`.
    pub(crate) fn take(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while !input.is_empty() {
            if self.remaining == 0 {
                self.header.push(input[0]);
                input = &input[1..];
                if let Some((opcode, size)) = header(&self.header)? {
                    self.header.clear();
                    self.remaining = size;
                    self.skip = opcode >= CLOSE;
                    if opcode == CLOSE {
                        return Err(io::Error::new(
                            io::ErrorKind::ConnectionAborted,
                            "the server closed the WebSocket",
                        ));
                    }
                }
                continue;
            }
            let (payload, rest) = input.split_at(self.remaining.min(input.len()));
            if !self.skip {
                out.extend_from_slice(payload);
            }
            self.remaining -= payload.len();
            input = rest;
        }
        Ok(())
    }
}

fn header(bytes: &[u8]) -> io::Result<Option<(u8, usize)>> {
    let &[first, second, ref length @ ..] = bytes else {
        return Ok(None);
    };
    if second & MASKED != 0 {
        return Err(malformed("a masked frame"));
    }
    let size = match (second, length) {
        (126, &[high, low]) => u16::from_be_bytes([high, low]).into(),
        (127, length) if length.len() == 8 => length
            .iter()
            .fold(0, |size, byte| size << 8 | usize::from(*byte)),
        (126 | 127, _) => return Ok(None),
        (size, _) => size.into(),
    };
    Ok(Some((first & 0xF, size)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn frames_are_taken_apart_wherever_they_are_cut() {
        let mut stream = vec![0x82, 3, b'a', b'b', b'c', 0x89, 1, b'!', 0x82, 126, 1, 0];
        stream.extend_from_slice(&[b'd'; 256]);
        for cut in 0..stream.len() {
            let (mut frames, mut out) = (Frames::default(), Vec::new());
            frames.take(&stream[..cut], &mut out).unwrap();
            frames.take(&stream[cut..], &mut out).unwrap();
            assert_eq!(out, [&b"abc"[..], &[b'd'; 256]].concat());
        }
    }
}
