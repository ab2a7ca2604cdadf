//! One client: a socket, what carries packets over it, and how far it has come.

use std::{
    io::{self, Read, Write},
    mem,
    net::TcpStream,
};

use nano::packet::{HEADER, Kind};
use rustls::ClientConnection;

use super::{wire::packet_header, ws};

/// What one read takes at most, in bytes.
const READ: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Connecting,
    Upgrading,
    Greeting,
    Open,
}

pub(crate) struct Conn {
    pub(crate) socket: TcpStream,
    pub(crate) stage: Stage,
    /// Whether it is registered for write readiness.
    pub(crate) waits_to_write: bool,
    /// When it last answered a heartbeat.
    pub(crate) heartbeat: Option<u64>,
    /// How many data packets have come, if the session can be resumed.
    pub(crate) received: Option<u64>,
    tls: Option<Box<ClientConnection>>,
    frames: Option<ws::Frames>,
    /// The start of a packet that is not complete.
    partial: Vec<u8>,
    /// What is to be sent, before TLS.
    out: Vec<u8>,
    /// What is being sent, and how much of it has been.
    sending: Vec<u8>,
    sent: usize,
}

/// Buffers that all connections of a thread read with.
pub(crate) struct Scratch {
    raw: Vec<u8>,
    plain: Vec<u8>,
    pub(crate) stream: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            raw: vec![0; READ],
            plain: Vec::new(),
            stream: Vec::with_capacity(2 * READ),
        }
    }
}

impl Conn {
    pub(crate) fn new(socket: TcpStream, tls: Option<ClientConnection>) -> Self {
        Self {
            socket,
            stage: Stage::Connecting,
            waits_to_write: false,
            heartbeat: None,
            received: None,
            tls: tls.map(Box::new),
            frames: None,
            partial: Vec::new(),
            out: Vec::new(),
            sending: Vec::new(),
            sent: 0,
        }
    }

    /// Reads once. `scratch.stream` is then what has come and was not kept back by
    /// [`keep`](Self::keep).
    pub(crate) fn read(&mut self, scratch: &mut Scratch) -> io::Result<()> {
        let Scratch { raw, plain, stream } = scratch;
        stream.clear();
        stream.append(&mut self.partial);
        let size = self.socket.read(raw)?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let received = match &mut self.tls {
            None => &raw[..size],
            Some(tls) => {
                plain.clear();
                decrypt(tls, &raw[..size], plain)?;
                &plain[..]
            }
        };
        match &mut self.frames {
            None => stream.extend_from_slice(received),
            Some(frames) => frames.take(received, stream)?,
        }
        Ok(())
    }

    /// Keeps what could not be used yet for the next read.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.partial.extend_from_slice(rest);
    }

    /// From here on packets travel in frames.
    pub(crate) fn use_frames(&mut self) -> &mut ws::Frames {
        self.frames.insert(ws::Frames::default())
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Queues a packet whose body is these parts.
    pub(crate) fn send_packet(&mut self, kind: Kind, parts: &[&[u8]]) {
        let size = parts.iter().map(|part| part.len()).sum();
        let framed = self.frames.is_some();
        if framed {
            ws::begin_frame(HEADER + size, &mut self.out);
        }
        let start = self.out.len();
        self.out.extend_from_slice(&packet_header(kind, size));
        parts
            .iter()
            .for_each(|part| self.out.extend_from_slice(part));
        if framed {
            ws::mask(&mut self.out[start..]);
        }
    }

    /// Sends what is queued; `false` if the socket does not take all of it.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(&self.out)?;
                self.out.clear();
                while tls.wants_write() {
                    tls.write_tls(&mut self.sending)?;
                }
            }
            None if self.sending.is_empty() => mem::swap(&mut self.out, &mut self.sending),
            None => self.sending.append(&mut self.out),
        }
        while self.sent < self.sending.len() {
            match self.socket.write(&self.sending[self.sent..]) {
                Ok(size) => self.sent += size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.sending.clear();
        self.sent = 0;
        Ok(true)
    }
}

fn decrypt(tls: &mut ClientConnection, mut received: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    while !received.is_empty() {
        tls.read_tls(&mut received)?;
        tls.process_new_packets().map_err(io::Error::other)?;
        match tls.reader().read_to_end(plain) {
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
