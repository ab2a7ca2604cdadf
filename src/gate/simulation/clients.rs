//! Clients: they send numbered messages, count what they get, and return.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use rand::RngExt;

use super::{
    connections::Connection,
    event::{Down, Event, Token, Up},
    oracle::Accepted,
    world::{BACKENDS, GATES, World},
};
use crate::{
    packet::{self, Decoder, Kind},
    resume::{Endpoint, Limits},
};

/// How long a client waits for the reply to its handshake.
const REPLY: u64 = 1_500;

pub(super) struct Client {
    endpoint: Endpoint,
    decoder: Decoder,
    token: Option<Token>,
    pub(super) session: Option<i64>,
    pub(super) conn: Option<u64>,
    /// Whether its handshake was answered.
    pub(super) open: bool,
    /// Whether its session has ended, and it knows.
    pub(super) over: bool,
    /// The messages it has sent, and those to each backend.
    pub(super) sent: u64,
    pub(super) sent_to: [u64; BACKENDS],
    /// Requests without an end.
    pub(super) requests: BTreeSet<u64>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            endpoint: Endpoint::new(Limits::default()),
            decoder: Decoder::new(1 << 16),
            token: None,
            session: None,
            conn: None,
            open: false,
            over: false,
            sent: 0,
            sent_to: [0; BACKENDS],
            requests: BTreeSet::new(),
        }
    }
}

/// A message of a client.
pub(super) struct Said {
    pub(super) number: u64,
    /// 0 for a notify.
    pub(super) request: u64,
    pub(super) backend: usize,
    /// The number among those to the backend.
    pub(super) to_backend: u64,
}

impl Said {
    pub(super) fn decode(body: &[u8]) -> Self {
        let number = |at: usize| u64::from_be_bytes(body[8 * at..8 * at + 8].try_into().unwrap());
        Self {
            number: number(0),
            request: number(1),
            backend: number(2) as usize,
            to_backend: number(3),
        }
    }
}

impl World {
    /// A client opens a connection, also while it has another one that it has not lost.
    pub(super) fn come_back(&mut self, client: usize) {
        if self.clients[client].over || self.clients[client].open {
            return;
        }
        let alive = (0..GATES).filter(|gate| self.mesh.is_alive(*gate));
        let alive: Vec<_> = alive.collect();
        if alive.is_empty() {
            return self.later(200, Event::Return { client });
        }
        let via = alive[self.random.random_range(0..alive.len())];
        let conn = self.number();
        self.connections
            .insert(conn, Connection::new(client, via, self.now));
        let this = &mut self.clients[client];
        if this.conn.replace(conn).is_some() {
            self.oracle.count("returned twice");
        }
        this.decoder = Decoder::new(1 << 16);
        let ask = this
            .token
            .clone()
            .map(|token| (token, this.endpoint.received()));
        self.send_up(conn, Up::Handshake(ask));
        self.later(REPLY, Event::ReplyDue(conn));
    }

    pub(super) fn reply_due(&mut self, conn: u64) {
        let client = self.connections.get(&conn).map(|it| it.client);
        if let Some(client) = client
            && self.clients[client].conn == Some(conn)
            && !self.clients[client].open
        {
            // The attempt may arrive later still.
            self.come_back(client);
        }
    }

    /// A client notices that its connection is lost, and returns.
    pub(super) fn client_lost(&mut self, conn: u64) {
        let client = self.connections.get(&conn).map(|it| it.client);
        if let Some(client) = client
            && self.clients[client].conn == Some(conn)
        {
            let this = &mut self.clients[client];
            (this.conn, this.open) = (None, false);
            let twice = self.random.random_bool(0.2);
            for _ in 0..1 + u32::from(twice) {
                let pause = self.random.random_range(0..400);
                self.later(pause, Event::Return { client });
            }
        }
    }

    /// A client sends a message, now or when it has returned.
    pub(super) fn say(&mut self, client: usize) {
        let backend = self.random.random_range(0..BACKENDS);
        let is_request = self.random.random_bool(0.5);
        let this = &mut self.clients[client];
        if this.over || this.session.is_none() || this.endpoint.is_full() {
            return;
        }
        this.sent += 1;
        this.sent_to[backend] += 1;
        let request = if is_request { this.sent } else { 0 };
        if is_request {
            this.requests.insert(request);
        }
        let mut body = BytesMut::new();
        for number in [this.sent, request, backend as u64, this.sent_to[backend]] {
            body.put_u64(number);
        }
        let body = body.freeze();
        let mut packet = BytesMut::new();
        packet::encode(Kind::Data, &body, &mut packet).unwrap();
        this.endpoint.record(&packet.freeze());
        if let (true, Some(conn)) = (this.open, this.conn) {
            self.send_up(conn, Up::Data(body));
        }
    }

    /// A client acknowledges what it has received.
    pub(super) fn beat(&mut self, client: usize) {
        let this = &mut self.clients[client];
        if let (true, Some(conn)) = (this.open, this.conn) {
            let mut body = Vec::new();
            this.endpoint.heartbeat(&mut body);
            self.send_up(conn, Up::Heartbeat(body));
        }
    }

    pub(super) fn down(&mut self, conn: u64, packet: Down) {
        let Some(connection) = self.connections.get(&conn).filter(|it| !it.dead) else {
            return;
        };
        let client = connection.client;
        if self.clients[client].conn != Some(conn) {
            return;
        }
        match packet {
            Down::Packets(bytes) => self.read(client, conn, &bytes.0),
            Down::Lost(why) => {
                let id = self.clients[client].session.unwrap_or_default();
                let holds = self.oracle.lost(id, why);
                self.expect(holds);
                self.clients[client].over = true;
            }
            Down::End { kicked: true } => {
                let this = &mut self.clients[client];
                (this.over, this.open) = (true, false);
            }
            Down::End { kicked: false } => self.client_lost(conn),
        }
    }

    fn read(&mut self, client: usize, conn: u64, bytes: &Bytes) {
        self.clients[client].decoder.feed(bytes);
        while let Some(packet) = self.clients[client].decoder.decode().unwrap() {
            match packet.kind {
                Kind::Handshake => self.granted(client, conn, &packet.body),
                Kind::Heartbeat => {
                    let heard = self.clients[client].endpoint.on_heartbeat(&packet.body);
                    self.expect(heard.map_err(|error| format!("client {client}: {error}")));
                }
                Kind::Data => {
                    let this = &mut self.clients[client];
                    this.endpoint.receive(packet.body.len());
                    let id = this.session.unwrap_or_default();
                    let body = &packet.body;
                    let number =
                        |at: usize| u64::from_be_bytes(body[at..at + 8].try_into().unwrap());
                    let got = match body[0] {
                        0 => Accepted::Push {
                            instance: number(1) as usize,
                            number: number(9),
                        },
                        _ => Accepted::Response(number(1)),
                    };
                    let mut holds = self.oracle.got(id, got);
                    if let Accepted::Response(request) = got
                        && !self.clients[client].requests.remove(&request)
                    {
                        let twice = format!("session {id}: request {request} ends twice");
                        holds = holds.and(Err(twice));
                    }
                    self.expect(holds);
                }
                _ => {}
            }
        }
    }

    /// The handshake reply: session, what the gate has received, and the next token.
    fn granted(&mut self, client: usize, conn: u64, body: &[u8]) {
        let text = std::str::from_utf8(body).unwrap();
        let [id, received, token] = text.split(' ').collect::<Vec<_>>()[..] else {
            return self.expect(Err(format!("client {client}: {text}")));
        };
        let this = &mut self.clients[client];
        this.session = Some(id.parse().unwrap());
        this.token = Some(Token(token.to_owned()));
        this.open = true;
        let again = match this.endpoint.resume(received.parse().unwrap()) {
            Ok(again) => again,
            Err(lost) => {
                let problem = format!("session {id}: the gate has {received}, {lost:?}");
                return self.expect(Err(problem));
            }
        };
        self.send_up(conn, Up::Acknowledge);
        let mut decoder = Decoder::new(1 << 16);
        for chunk in again {
            decoder.feed(&chunk);
        }
        while let Some(packet) = decoder.decode().unwrap() {
            self.send_up(conn, Up::Data(packet.body));
        }
    }
}
