//! Gates: sessions with and without a connection, as connections' tasks keep them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::time::Instant;

use super::{
    arrivals::Adopting,
    clients::Said,
    defects::Defect,
    departures::Departing,
    event::{Down, Event, Packets, Up},
    world::{GATES, World},
};
use crate::{
    cluster::mesh::ID_STEP,
    gate::{
        client_state::{ClientState, CloseStep, Unanswered},
        migration_state::Migrations,
        moved_close::MovedClose,
        resume::{
            registry::{Next, Registry, Resumable},
            replay::Replay,
        },
    },
    packet::{self, Kind},
    resume::Lost,
    session::{CloseReason, Session},
};

/// How long a session is kept without its client, and a request without its answer.
pub(super) const WINDOW: Duration = Duration::from_secs(12);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);

#[derive(Default)]
pub(super) struct Gate {
    pub(super) draining: bool,
    pub(super) registry: Registry,
    pub(super) migrations: Arc<Migrations>,
    pub(super) sessions: BTreeMap<i64, Entry>,
    pub(super) adopting: BTreeMap<i64, Adopting>,
    /// Sessions that another gate has, and whose tasks have not ended.
    pub(super) moved: BTreeMap<i64, Moved>,
}

impl Gate {
    /// Whether a session is here, or arrives.
    pub(super) fn has(&self, id: i64) -> bool {
        self.sessions.contains_key(&id) || self.adopting.contains_key(&id)
    }
}

/// A session that has moved, until no close of it is left to be passed on.
pub(super) struct Moved {
    pub(super) handle: Arc<Handle>,
    pub(super) to: usize,
    pub(super) closes: MovedClose,
}

/// A session of a gate.
pub(super) struct Entry {
    pub(super) session: Session,
    pub(super) handle: Arc<Handle>,
    pub(super) conn: Option<u64>,
    /// The connection on which its client has returned, until the session goes on over it.
    pub(super) arrived: Option<u64>,
    /// Until when it waits for its client.
    pub(super) by: Option<Instant>,
    pub(super) departing: Option<Departing>,
    /// Whether it came from another gate, and its client has been here since.
    pub(super) adopted: bool,
    returned: bool,
}

impl Entry {
    pub(super) fn new(session: Session, handle: Arc<Handle>, adopted: bool) -> Self {
        Self {
            session,
            handle,
            conn: None,
            arrived: None,
            by: None,
            departing: None,
            adopted,
            returned: !adopted,
        }
    }
}

/// What the registry knows of a client.
pub(super) struct Handle(pub(super) Mutex<ClientState>);

impl Resumable for Handle {
    fn check(&self, received: u64) -> std::result::Result<(), Lost> {
        self.0.lock().check_return(received)
    }

    fn supersede(&self) {
        self.0.lock().detach();
    }
}

/// A packet for a client: 0 and two numbers for a push, 1 and a number for a response.
pub(super) fn data(kind: u8, numbers: &[u64]) -> Bytes {
    let (mut body, mut packet) = (BytesMut::new(), BytesMut::new());
    body.put_u8(kind);
    numbers.iter().for_each(|number| body.put_u64(*number));
    packet::encode(Kind::Data, &body, &mut packet).unwrap();
    packet.freeze()
}

/// Packets of clients.
impl World {
    pub(super) fn up(&mut self, conn: u64, packet: Up) {
        let Some(connection) = self.connections.get(&conn).filter(|it| !it.dead) else {
            return;
        };
        if let Up::Handshake(ask) = packet {
            let gate = connection.via;
            return match ask {
                None => self.open_session(conn, gate),
                Some(ask) => self.come_to(conn, gate, ask),
            };
        }
        let Some((gate, id)) = connection.holder else {
            return;
        };
        let entry = self.gates[gate].sessions.get(&id);
        let Some(entry) = entry.filter(|entry| entry.conn == Some(conn)) else {
            return;
        };
        let handle = entry.handle.clone();
        let mut client = handle.0.lock();
        if !client.is_open() {
            return;
        }
        match packet {
            Up::Acknowledge => {
                client.acknowledge();
                self.gates[gate].registry.confirm(id);
                drop(client);
                self.flush_later(gate, id);
            }
            Up::Heartbeat(body) => {
                let replay = client.replay.as_mut().unwrap();
                let heard = replay.on_heartbeat(&body);
                self.expect(heard.map_err(|error| format!("session {id}: {error}")));
            }
            Up::Data(body) => {
                client.replay.as_mut().unwrap().receive(1, body.len());
                let said = Said::decode(&body);
                if said.request != 0 {
                    let by = Some(self.now + REQUEST_TIMEOUT);
                    client
                        .in_flight
                        .insert(said.request, by, Unanswered::default());
                }
                drop(client);
                self.forward(gate, id, &said, body);
            }
            Up::Handshake(_) => {}
        }
    }

    fn forward(&mut self, gate: usize, id: i64, said: &Said, body: Bytes) {
        let holds = self.oracle.took(id, said.number);
        self.expect(holds);
        let session = self.gates[gate].sessions[&id].session.clone();
        let to = (gate, GATES + said.backend);
        let sent = self.mesh.message(to, &session, said.request, body);
        if sent.is_err() && said.request != 0 {
            self.respond(gate, id, said.request);
        }
    }

    fn open_session(&mut self, conn: u64, gate: usize) {
        let id = self.number() as i64 * ID_STEP;
        let session = self.mesh.session(id);
        let handle = Arc::new(Handle(Mutex::new(ClientState {
            replay: Some(Box::new(Replay::new(&self.limits))),
            ..ClientState::default()
        })));
        let most = (usize::MAX, self.mesh.incarnation(gate) << 8 | gate as u64);
        let this = &mut self.gates[gate];
        let token = this.registry.add(id, handle.clone(), most).unwrap();
        this.sessions.insert(id, Entry::new(session, handle, false));
        self.attach_connection(gate, id, conn, token);
    }

    /// Goes on over a connection, with the reply to its handshake.
    fn attach_connection(&mut self, gate: usize, id: i64, conn: u64, token: String) {
        let Some(entry) = self.gates[gate].sessions.get_mut(&id) else {
            return;
        };
        (entry.conn, entry.by) = (Some(conn), None);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.holder = Some((gate, id));
        }
        let mut client = entry.handle.0.lock();
        let received = client.replay.as_ref().unwrap().received();
        let body = format!("{id} {received} {token}");
        if client.admit_control(Kind::Handshake, body.len(), &self.limits) {
            let write = |out: &mut _| packet::encode(Kind::Handshake, body.as_bytes(), out);
            client.queue.write(write).unwrap();
            client.answer();
        }
        drop(client);
        self.flush_later(gate, id);
    }
}

/// A session's task.
impl World {
    /// Does what is next for a session, as its task does.
    pub(super) fn settle(&mut self, gate: usize, id: i64) {
        let Some(entry) = self.gates[gate].sessions.get_mut(&id) else {
            return;
        };
        if entry.departing.is_some()
            && !self
                .defect
                .is_some_and(|it| it == Defect::AdmitsWhileMoving)
        {
            return;
        }
        let mut client = entry.handle.0.lock();
        if !client.is_away() {
            let ends = client.next_step(self.now) != CloseStep::Stay;
            let reason = client.ending().map(|ending| ending.reason);
            drop(client);
            if ends {
                return self.end(
                    gate,
                    id,
                    reason.unwrap_or(CloseReason::Client),
                    Lost::Closed,
                );
            }
            return self.flush_later(gate, id);
        }
        drop(client);
        let (former, arrived) = (entry.conn, entry.arrived);
        match self.gates[gate].registry.next(id) {
            Next::Returned(arrival) => {
                let entry = self.gates[gate].sessions.get_mut(&id).unwrap();
                (entry.conn, entry.arrived) = (None, None);
                let attached = entry.handle.0.lock().attach(arrival.received);
                let returned = std::mem::replace(&mut entry.returned, true);
                if entry.adopted && !returned {
                    self.oracle.count("returned");
                }
                if let Some(former) = former {
                    self.end_connection(former, false);
                }
                if let Err(lost) = attached {
                    return self.end(gate, id, CloseReason::SlowClient, lost);
                }
                let node = self.mesh.incarnation(gate) << 8 | gate as u64;
                let token = self.gates[gate].registry.renew(id, node).unwrap();
                self.attach_connection(gate, id, arrived.unwrap(), token);
            }
            Next::Migrates => {
                let entry = self.gates[gate].sessions.get_mut(&id).unwrap();
                (entry.conn, entry.arrived) = (None, None);
                for conn in former.into_iter().chain(arrived) {
                    self.end_connection(conn, false);
                }
                self.begin_departure(gate, id);
            }
            Next::Waits => {
                let by = self.now + WINDOW;
                let entry = self.gates[gate].sessions.get_mut(&id).unwrap();
                entry.by.get_or_insert(by);
            }
        }
    }

    /// A gate notices that the connection of a session is lost.
    pub(super) fn gate_lost(&mut self, conn: u64) {
        let holder = self.connections.get(&conn).and_then(|it| it.holder);
        let Some((gate, id)) = holder else { return };
        if let Some(entry) = self.gates[gate].sessions.get_mut(&id)
            && entry.conn == Some(conn)
        {
            entry.conn = None;
            entry.handle.0.lock().detach();
            self.settle(gate, id);
        }
    }

    pub(super) fn flush_later(&mut self, gate: usize, id: i64) {
        let (at, pause) = (self.at_gate(gate, id), self.random.random_range(0..15));
        self.later(pause, Event::Flush(at));
    }

    /// Writes what is queued to the connection.
    pub(super) fn flush(&mut self, gate: usize, id: i64) {
        let Some(entry) = self.gates[gate].sessions.get(&id) else {
            return;
        };
        let mut client = entry.handle.0.lock();
        let (true, Some(conn)) = (client.is_open(), entry.conn) else {
            return;
        };
        let mut chunks = VecDeque::new();
        client.take(&mut chunks);
        drop(client);
        for chunk in chunks {
            self.send_down(conn, Down::Packets(Packets(chunk)));
        }
    }

    /// Deadlines: of requests, of clients that are away, and for migrations.
    pub(super) fn tick(&mut self) {
        for gate in 0..GATES {
            let ids: Vec<_> = self.gates[gate].sessions.keys().copied().collect();
            for id in ids {
                let entry = &self.gates[gate].sessions[&id];
                let client = entry.handle.0.lock();
                let expired: Vec<_> = client.in_flight.expired(self.now).map(|it| it.0).collect();
                let is_over = entry.departing.is_none()
                    && client.is_away()
                    && entry.by.is_some_and(|by| by <= self.now);
                drop(client);
                for request in expired {
                    self.respond(gate, id, request);
                }
                if is_over {
                    self.end(gate, id, CloseReason::Client, Lost::Expired);
                }
            }
            if self.gates[gate].draining {
                self.migrate(gate);
            }
            if self.random.random_bool(0.2) && !self.lingers() {
                self.stop_drained(gate);
            }
        }
    }
}
