//! Packets and messages as the load reads and writes them: slices in, slices out, nothing
//! allocated.

use std::io;

use nano::packet::{HEADER, Kind};

/// A message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    Response {
        id: u64,
        error: bool,
        body: &'a [u8],
    },
    Push {
        route: &'a [u8],
        body: &'a [u8],
    },
}

impl<'a> Incoming<'a> {
    pub(crate) fn decode(data: &'a [u8]) -> io::Result<Self> {
        let (&flag, rest) = data
            .split_first()
            .ok_or_else(|| malformed("an empty message"))?;
        match flag >> 1 & 7 {
            2 => {
                let (id, body) = varint(rest).ok_or_else(|| malformed("a response without id"))?;
                Ok(Self::Response {
                    id,
                    error: flag & 0x20 != 0,
                    body,
                })
            }
            3 => {
                let (&len, rest) = rest
                    .split_first()
                    .ok_or_else(|| malformed("a push without route"))?;
                let (route, body) = rest
                    .split_at_checked(len.into())
                    .ok_or_else(|| malformed("a push with half a route"))?;
                Ok(Self::Push { route, body })
            }
            kind => Err(malformed(&format!("a message of kind {kind}"))),
        }
    }
}

/// Takes one packet off the front of `stream`; `None` if it is not complete.
pub(crate) fn take_packet<'a>(stream: &mut &'a [u8]) -> io::Result<Option<(Kind, &'a [u8])>> {
    let &[kind, high, middle, low, ref rest @ ..] = *stream else {
        return Ok(None);
    };
    let kind = Kind::try_from(kind).map_err(|error| malformed(&error.to_string()))?;
    let size = u32::from_be_bytes([0, high, middle, low]) as usize;
    let Some((body, rest)) = rest.split_at_checked(size) else {
        return Ok(None);
    };
    *stream = rest;
    Ok(Some((kind, body)))
}

pub(crate) fn packet_header(kind: Kind, size: usize) -> [u8; HEADER] {
    let [_, high, middle, low] = (size as u32).to_be_bytes();
    [kind as u8, high, middle, low]
}

/// The bytes of an id, and how many they are.
pub(crate) fn id_bytes(mut id: u64) -> ([u8; 10], usize) {
    let (mut bytes, mut len) = ([0; 10], 0);
    while id > 0x7F {
        bytes[len] = id as u8 | 0x80;
        id >>= 7;
        len += 1;
    }
    bytes[len] = id as u8;
    (bytes, len + 1)
}

fn varint(data: &[u8]) -> Option<(u64, &[u8])> {
    let len = data.iter().take(10).position(|byte| *byte < 0x80)? + 1;
    let (id, rest) = data.split_at(len);
    Some((
        id.iter()
            .rev()
            .fold(0, |id, byte| id << 7 | u64::from(byte & 0x7F)),
        rest,
    ))
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server sent {what}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::BytesMut;
    use nano::{message, packet};

    use super::*;

    #[test]
    fn it_reads_what_the_library_writes() {
        let mut out = BytesMut::new();
        packet::encode_with(Kind::Data, &mut out, |out| {
            message::encode_response(300, true, b"no", out);
            Ok::<_, packet::PacketError>(())
        })
        .unwrap();
        let mut stream = &out[..];
        let (kind, data) = take_packet(&mut stream).unwrap().unwrap();
        assert_eq!(kind, Kind::Data);
        assert_eq!(
            Incoming::decode(data).unwrap(),
            Incoming::Response {
                id: 300,
                error: true,
                body: b"no"
            }
        );
        assert!(stream.is_empty());
        assert_eq!(take_packet(&mut &out[..5]).unwrap(), None);

        let mut push = BytesMut::new();
        message::encode_push("onMove", b"x", &message::Dictionary::default(), &mut push).unwrap();
        assert_eq!(
            Incoming::decode(&push).unwrap(),
            Incoming::Push {
                route: b"onMove",
                body: b"x"
            }
        );
    }

    #[test]
    fn ids_are_written_as_they_are_read() {
        for id in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let (bytes, len) = id_bytes(id);
            assert_eq!(varint(&bytes[..len]), Some((id, &[][..])));
        }
    }
}
