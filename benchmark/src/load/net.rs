//! The connections of one thread, and their readiness events.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use nano::packet::Kind;
use rustix::{
    event::{Timespec, epoll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt},
};
use rustls::ClientConfig;

use super::{
    conn::{Conn, Scratch, Stage},
    due,
    target::Target,
    tls,
    wire::{id_bytes, take_packet},
    ws,
};

/// How many connections one local address makes: the system has not many more ports.
const PORTS: usize = 20_000;
const EVENTS: usize = 256;
/// Nanoseconds between two heartbeats of a client, at least.
const HEARTBEAT: u64 = 1_000_000_000;
const HANDSHAKE: &[u8] = br#"{"sys":{"type":"nano-bench","version":"1.0.0"},"user":{}}"#;
const RESUMABLE: &[u8] =
    br#"{"sys":{"type":"nano-bench","version":"1.0.0","resume":{}},"user":{}}"#;
/// After how many data packets a resumable session acknowledges them, as our clients do.
const ACKNOWLEDGED: u64 = 256;

pub(crate) struct Net {
    poll: std::os::fd::OwnedFd,
    events: Vec<epoll::Event>,
    targets: Vec<Target>,
    tls: Option<Arc<ClientConfig>>,
    conns: Vec<Option<Conn>>,
    /// Those with something to send.
    dirty: Vec<usize>,
    opened: usize,
    /// Whether the clients ask for sessions that can be resumed.
    resume: bool,
}

/// What became of a connection that the system pointed at.
#[derive(Debug)]
pub(crate) enum Progress {
    Nothing,
    /// The handshake is done.
    Opened,
    /// There may be messages in the scratch buffer.
    Received,
    Closed(io::Error),
}

impl Net {
    pub(crate) fn new(targets: Vec<Target>, slots: usize, resume: bool) -> io::Result<Self> {
        let tls = if targets.iter().any(|target| target.tls) {
            Some(tls::config().map_err(io::Error::other)?)
        } else {
            None
        };
        Ok(Self {
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            targets,
            tls,
            conns: (0..slots).map(|_| None).collect(),
            dirty: Vec::with_capacity(slots),
            opened: 0,
            resume,
        })
    }

    /// Starts a connection in an empty slot. Slots take the targets in turn.
    pub(crate) fn open(&mut self, slot: usize) -> io::Result<()> {
        let target = self.target(slot);
        let family = if target.address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = socket_with(
            family,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if target.address.ip().is_loopback() && self.opened >= PORTS {
            let local = Ipv4Addr::new(127, 0, 1, 1 + (self.opened / PORTS % 250) as u8);
            bind(&socket, &SocketAddr::from((local, 0)))?;
        }
        match connect(&socket, &target.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let tls = self
            .tls
            .as_ref()
            .filter(|_| target.tls)
            .map(tls::connection)
            .transpose()
            .map_err(io::Error::other)?;
        let conn = Conn::new(TcpStream::from(socket), tls);
        epoll::add(
            &self.poll,
            &conn.socket,
            epoll::EventData::new_u64(slot as u64),
            epoll::EventFlags::OUT,
        )?;
        self.conns[slot] = Some(conn);
        self.opened += 1;
        Ok(())
    }

    pub(crate) fn close(&mut self, slot: usize) {
        self.conns[slot] = None;
    }

    pub(crate) fn is_open(&self, slot: usize) -> bool {
        self.conns[slot]
            .as_ref()
            .is_some_and(|conn| conn.stage == Stage::Open)
    }

    /// Stops (or goes on) reading what the server sends to a client.
    pub(crate) fn listen(&mut self, slot: usize, listen: bool) -> io::Result<()> {
        let Some(conn) = &self.conns[slot] else {
            return Ok(());
        };
        let flags = if listen {
            epoll::EventFlags::IN
        } else {
            epoll::EventFlags::empty()
        };
        Ok(epoll::modify(
            &self.poll,
            &conn.socket,
            epoll::EventData::new_u64(slot as u64),
            flags,
        )?)
    }

    /// Queues a packet; [`flush`](Self::flush) sends it.
    pub(crate) fn send(&mut self, slot: usize, kind: Kind, parts: &[&[u8]]) {
        if let Some(conn) = &mut self.conns[slot] {
            conn.send_packet(kind, parts);
            self.mark(slot);
        }
    }

    /// Queues a request to a server that speaks the protocol of due.
    pub(crate) fn send_due(&mut self, slot: usize, route: u16, seq: u32, parts: &[&[u8]]) {
        if let Some(conn) = &mut self.conns[slot] {
            let size = parts.iter().map(|part| part.len()).sum();
            conn.send_raw(&due::header(route, seq, size));
            parts.iter().for_each(|part| conn.send_raw(part));
            self.mark(slot);
        }
    }

    /// Whether the server of a slot speaks the protocol of due.
    pub(crate) fn speaks_due(&self, slot: usize) -> bool {
        self.target(slot).due
    }

    fn target(&self, slot: usize) -> &Target {
        &self.targets[slot % self.targets.len()]
    }

    /// There is something to send.
    fn mark(&mut self, slot: usize) {
        if self.dirty.last() != Some(&slot) {
            self.dirty.push(slot);
        }
    }

    /// Answers a heartbeat, unless it has just answered one. A server that answers the heartbeats of its
    /// clients would otherwise never do anything else.
    pub(crate) fn answer_heartbeat(&mut self, slot: usize, now: u64) {
        let Some(conn) = &mut self.conns[slot] else {
            return;
        };
        if conn.heartbeat.is_none_or(|at| at + HEARTBEAT <= now) {
            conn.heartbeat = Some(now);
            self.send_heartbeat(slot);
        }
    }

    /// Counts a data packet of a session that can be resumed, and acknowledges many at once.
    pub(crate) fn count(&mut self, slot: usize) {
        if let Some(conn) = &mut self.conns[slot]
            && let Some(received) = &mut conn.received
        {
            *received += 1;
            if received.is_multiple_of(ACKNOWLEDGED) {
                self.send_heartbeat(slot);
            }
        }
    }

    fn send_heartbeat(&mut self, slot: usize) {
        let Some(conn) = &mut self.conns[slot] else {
            return;
        };
        let (bytes, len) = conn.received.map_or(([0; 10], 0), id_bytes);
        conn.send_packet(Kind::Heartbeat, &[&bytes[..len]]);
        self.mark(slot);
    }

    /// Sends what is queued everywhere. Slots of connections that turned out to be closed are
    /// returned.
    pub(crate) fn flush(&mut self) -> Vec<(usize, io::Error)> {
        let mut closed = Vec::new();
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            if let Err(error) = self.flush_one(slot) {
                closed.push((slot, error));
            }
        }
        self.dirty = dirty;
        closed
    }

    /// Waits for something to happen, not longer than this. Slots are in `ready`.
    pub(crate) fn wait(
        &mut self,
        limit: Duration,
        ready: &mut Vec<(usize, bool)>,
    ) -> io::Result<()> {
        let limit = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        };
        self.events.clear();
        match epoll::wait(
            &self.poll,
            rustix::buffer::spare_capacity(&mut self.events),
            Some(&limit),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.clear();
        ready.extend(self.events.iter().map(|event| {
            (
                event.data.u64() as usize,
                { event.flags }.contains(epoll::EventFlags::OUT),
            )
        }));
        Ok(())
    }

    /// Advances a connection that is ready.
    pub(crate) fn advance(
        &mut self,
        slot: usize,
        writable: bool,
        scratch: &mut Scratch,
    ) -> Progress {
        self.try_advance(slot, writable, scratch)
            .unwrap_or_else(Progress::Closed)
    }

    /// Keeps the end of what was received for the next time.
    pub(crate) fn keep(&mut self, slot: usize, rest: &[u8]) {
        if let Some(conn) = &mut self.conns[slot] {
            conn.keep(rest);
        }
    }

    fn try_advance(
        &mut self,
        slot: usize,
        writable: bool,
        scratch: &mut Scratch,
    ) -> io::Result<Progress> {
        let Some(conn) = &mut self.conns[slot] else {
            return Ok(Progress::Nothing);
        };
        if conn.stage == Stage::Connecting {
            sockopt::socket_error(&conn.socket)??;
            let target = &self.targets[slot % self.targets.len()];
            match &target.path {
                Some(path) => {
                    conn.stage = Stage::Upgrading;
                    conn.send_raw(&ws::upgrade(&target.host, path));
                }
                None if target.due => conn.stage = Stage::Open,
                None => greet(conn, self.resume),
            }
            conn.waits_to_write = true;
            let open = conn.stage == Stage::Open;
            self.flush_one(slot)?;
            return Ok(if open {
                Progress::Opened
            } else {
                Progress::Nothing
            });
        }
        if writable {
            self.flush_one(slot)?;
            return Ok(Progress::Nothing);
        }
        match conn.read(scratch) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Progress::Nothing);
            }
            result => result?,
        }
        match conn.stage {
            Stage::Upgrading => match ws::upgraded(&scratch.stream)? {
                Some(head) => {
                    let rest = scratch.stream.split_off(head);
                    scratch.stream.clear();
                    conn.use_frames().take(&rest, &mut scratch.stream)?;
                    conn.keep(&scratch.stream);
                    greet(conn, self.resume);
                }
                None => conn.keep(&scratch.stream),
            },
            Stage::Greeting => {
                let mut stream = &scratch.stream[..];
                let Some((kind, body)) = take_packet(&mut stream)? else {
                    conn.keep(&scratch.stream);
                    // With TLS there may be something of the handshake to send.
                    return self.flush_one(slot).map(|_| Progress::Nothing);
                };
                if kind != Kind::Handshake
                    || !body.windows(10).any(|window| window == br#""code":200"#)
                {
                    return Err(super::wire::malformed("no good handshake"));
                }
                conn.keep(stream);
                conn.send_packet(Kind::Ack, &[]);
                conn.stage = Stage::Open;
                self.flush_one(slot)?;
                return Ok(Progress::Opened);
            }
            _ => return Ok(Progress::Received),
        }
        self.flush_one(slot)?;
        Ok(Progress::Nothing)
    }

    /// Sends what is queued, and registers for write readiness if something is left.
    pub(crate) fn flush_one(&mut self, slot: usize) -> io::Result<()> {
        let Some(conn) = &mut self.conns[slot] else {
            return Ok(());
        };
        if conn.stage == Stage::Connecting {
            return Ok(());
        }
        let waits = !conn.flush()?;
        if waits != conn.waits_to_write {
            conn.waits_to_write = waits;
            let flags = if waits {
                epoll::EventFlags::IN | epoll::EventFlags::OUT
            } else {
                epoll::EventFlags::IN
            };
            epoll::modify(
                &self.poll,
                &conn.socket,
                epoll::EventData::new_u64(slot as u64),
                flags,
            )?;
        }
        Ok(())
    }
}

fn greet(conn: &mut Conn, resume: bool) {
    conn.stage = Stage::Greeting;
    conn.received = resume.then_some(0);
    let handshake = if resume { RESUMABLE } else { HANDSHAKE };
    conn.send_packet(Kind::Handshake, &[handshake]);
}
