//! As much of the protocol as a limit server needs: a handshake, requests, responses.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use nano::packet::Kind;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

/// The heartbeat it announces is never sent: a limit server does nothing but answer.
const REPLY: &[u8] = br#"{"code":200,"sys":{"heartbeat":60}}"#;
pub(crate) const READ: usize = 4 * 1024;

/// A request: its id, the route and the body.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) route: Bytes,
    pub(crate) body: Bytes,
}

/// Reads what there is; `false` at the end of the stream. A read that does not fill the room it has is taken for all there is.
pub(crate) fn poll_read(socket: &mut TcpStream, held: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
    let mut room = [0; READ];
    let mut buffer = ReadBuf::new(&mut room);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    held.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(!buffer.filled().is_empty()))
}

/// Takes all complete packets off `held`. Handshakes are answered into `out`, requests go to `request`.
pub(crate) fn take(held: &mut Vec<u8>, out: &mut Vec<u8>, mut request: impl FnMut(&mut Vec<u8>, Request)) -> io::Result<()> {
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
    let id = message.get(1..)?.iter().take(10).position(|byte| *byte < 0x80)? + 1;
    let number = message[1..=id].iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7F));
    let route = id + 2..id + 2 + usize::from(*message.get(id + 1)?);
    (route.end <= message.len()).then(|| Request { id: number, route: message.slice(route.clone()), body: message.slice(route.end..) })
}

pub(crate) fn respond(mut id: u64, body: &[u8], out: &mut Vec<u8>) {
    let digits = (64 - id.leading_zeros()).div_ceil(7).max(1) as usize;
    packet(Kind::Data, 1 + digits + body.len(), out);
    out.push(4);
    while id > 0x7F {
        out.push(id as u8 | 0x80);
        id >>= 7;
    }
    out.push(id as u8);
    out.extend_from_slice(body);
}

fn packet(kind: Kind, size: usize, out: &mut Vec<u8>) {
    let [_, high, middle, low] = (size as u32).to_be_bytes();
    out.extend_from_slice(&[kind as u8, high, middle, low]);
}
