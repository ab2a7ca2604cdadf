//! Connections of clients: ordered in each direction, until they break and take along what is under
//! way. The two ends notice that at different times, if at all.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::{
    event::{Down, Event, Up},
    world::World,
};

pub(super) struct Connection {
    pub(super) client: usize,
    /// The gate that the client is connected to.
    pub(super) via: usize,
    /// The session, and the gate that has it.
    pub(super) holder: Option<(usize, i64)>,
    /// Whether what is sent vanishes.
    pub(super) dead: bool,
    /// When the last packet arrives, up and down.
    last: [Instant; 2],
}

impl Connection {
    pub(super) fn new(client: usize, via: usize, now: Instant) -> Self {
        Self {
            client,
            via,
            holder: None,
            dead: false,
            last: [now; 2],
        }
    }
}

impl World {
    pub(super) fn send_up(&mut self, conn: u64, packet: Up) {
        if let Some(at) = self.arrival(conn, 0) {
            self.at(at, Event::Up { conn, packet });
        }
    }

    pub(super) fn send_down(&mut self, conn: u64, packet: Down) {
        if let Some(at) = self.arrival(conn, 1) {
            self.at(at, Event::Down { conn, packet });
        }
    }

    fn arrival(&mut self, conn: u64, direction: usize) -> Option<Instant> {
        let connection = self.connections.get_mut(&conn).filter(|it| !it.dead)?;
        // Mostly quick; a reply may come after the client has given it up.
        let slow = self.random.random_bool(0.01);
        let delay = self.random.random_range(0..if slow { 2_500 } else { 40 });
        let at = self.now + Duration::from_millis(delay);
        let at = at.max(connection.last[direction]);
        connection.last[direction] = at;
        Some(at)
    }

    /// Loses what is under way. The gate may not notice for long.
    pub(super) fn break_connection(&mut self, conn: u64) {
        let Some(connection) = self.connections.get_mut(&conn).filter(|it| !it.dead) else {
            return;
        };
        connection.dead = true;
        self.oracle.count("connection lost");
        let pause = self.random.random_range(0..300);
        self.later(pause, Event::ClientLost(conn));
        let half_open = self.random.random_bool(0.3);
        let pause = self
            .random
            .random_range(0..if half_open { 4_000 } else { 300 });
        self.later(pause, Event::GateLost(conn));
    }

    /// A gate closes a connection, behind what it has sent.
    pub(super) fn end_connection(&mut self, conn: u64, kicked: bool) {
        self.send_down(conn, Down::End { kicked });
    }

    /// The connections by way of a gate, or to a session of it.
    pub(super) fn connections_of(&self, gate: usize) -> Vec<u64> {
        let connections = self.connections.iter().filter(|(_, it)| {
            let holder = it.holder.map(|(gate, _)| gate);
            !it.dead && (it.via == gate || holder == Some(gate))
        });
        connections.map(|(conn, _)| *conn).collect()
    }
}
