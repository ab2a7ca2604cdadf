//! As much of the protocol as a baseline server needs: a handshake, requests, notifies, responses,
//! pushes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use nano::packet::Kind;
use tokio::io::{AsyncRead, ReadBuf};

/// The heartbeat it announces is never sent: a baseline server does nothing but answer.
const REPLY: &[u8] = br#"{"code":200,"sys":{"heartbeat":60}}"#;
pub(crate) const READ: usize = 4 * 1024;

const NOTIFY: u8 = 1 << 1;
const RESPONSE: u8 = 2 << 1;
const PUSH: u8 = 3 << 1;

/// A request: its id, the route and the body. The id of a notify is 0.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) route: Bytes,
    pub(crate) body: Bytes,
}

/// Reads what there is; `false` at the end of the stream. A read that does not fill the room it has
/// is taken for all there is.
pub(crate) fn poll_read(
    socket: &mut (impl AsyncRead + Unpin),
    held: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    let mut room = [0; READ];
    let mut buffer = ReadBuf::new(&mut room);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    held.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(!buffer.filled().is_empty()))
}

/// Takes all complete packets off `held`. Handshakes are answered into `out`, requests go to
/// `request`.
pub(crate) fn take(
    held: &mut Vec<u8>,
    out: &mut Vec<u8>,
    mut request: impl FnMut(&mut Vec<u8>, Request),
) -> io::Result<()> {
    let chunk = Bytes::copy_from_slice(held);
    let mut at = 0;
    while let Some(&[kind, high, middle, low]) = chunk.get(at..at + 4) {
        let (start, size) = (at + 4, u32::from_be_bytes([0, high, middle, low]) as usize);
        if chunk.len() < start + size {
            break;
        }
        at = start + size;
        if kind == Kind::Handshake as u8 {
            packet(Kind::Handshake, REPLY.len(), out);
            out.extend_from_slice(REPLY);
        } else if kind == Kind::Data as u8 {
            let message = parse(&chunk.slice(start..at)).ok_or(io::ErrorKind::InvalidData)?;
            request(out, message);
        }
    }
    held.drain(..at);
    Ok(())
}

fn parse(message: &Bytes) -> Option<Request> {
    let (flag, rest) = message.split_first()?;
    let digits = if *flag == NOTIFY {
        0
    } else {
        rest.iter().take(10).position(|byte| *byte < 0x80)? + 1
    };
    let id = rest[..digits]
        .iter()
        .rev()
        .fold(0, |id, byte| id << 7 | u64::from(byte & 0x7F));
    let start = 1 + digits + 1;
    let end = start + usize::from(*message.get(start - 1)?);
    (end <= message.len()).then(|| Request {
        id,
        route: message.slice(start..end),
        body: message.slice(end..),
    })
}

pub(crate) fn respond(mut id: u64, body: &[u8], out: &mut Vec<u8>) {
    let digits = (64 - id.leading_zeros()).div_ceil(7).max(1) as usize;
    packet(Kind::Data, 1 + digits + body.len(), out);
    out.push(RESPONSE);
    while id > 0x7F {
        out.push(id as u8 | 0x80);
        id >>= 7;
    }
    out.push(id as u8);
    out.extend_from_slice(body);
}

pub(crate) fn push(route: &str, body: &[u8], out: &mut Vec<u8>) {
    packet(Kind::Data, 2 + route.len() + body.len(), out);
    out.extend_from_slice(&[PUSH, route.len() as u8]);
    out.extend_from_slice(route.as_bytes());
    out.extend_from_slice(body);
}

fn packet(kind: Kind, size: usize, out: &mut Vec<u8>) {
    let [_, high, middle, low] = (size as u32).to_be_bytes();
    out.extend_from_slice(&[kind as u8, high, middle, low]);
}
