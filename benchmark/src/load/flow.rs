//! What the clients of one thread do.

use nano::packet::Kind;

use super::{
    body::{Stamp, Template},
    net::Net,
    tally::Tally,
    wire::{Incoming, id_bytes},
};

/// A scenario, as one thread plays it. Times are nanoseconds of the [`Clock`](super::tally::Clock).
pub(crate) trait Flow: Send {
    /// A client is connected.
    fn opened(&mut self, net: &mut Net, slot: usize, now: u64);

    /// Whether everything is ready to be measured, all clients being connected.
    fn ready(&self) -> bool {
        true
    }

    /// The run begins.
    fn start(&mut self, net: &mut Net, now: u64);

    fn message(&mut self, net: &mut Net, slot: usize, message: &Incoming<'_>, now: u64);

    /// The server closed a connection.
    fn closed(&mut self, net: &mut Net, slot: usize, now: u64);

    /// Does what is due; returns when the next action is.
    fn wake(&mut self, net: &mut Net, now: u64) -> u64;

    /// The run ends: from here on only what is on its way is waited for.
    fn stop(&mut self);

    /// Whether nothing is on its way any more.
    fn is_done(&self) -> bool;

    fn tally(&mut self) -> &mut Tally;
}

/// A message to be sent many times, each with a stamp of its own.
pub(crate) struct Outgoing {
    request: bool,
    route: Vec<u8>,
    /// The route of a server that numbers them.
    number: u16,
    pub(crate) body: Template,
}

impl Outgoing {
    pub(crate) fn request(route: &str, body: Template) -> Self {
        Self {
            request: true,
            route: routed(route),
            number: route.parse().unwrap_or_default(),
            body,
        }
    }

    pub(crate) fn notify(route: &str, body: Template) -> Self {
        Self {
            request: false,
            route: routed(route),
            number: route.parse().unwrap_or_default(),
            body,
        }
    }

    /// Sends it; the id of a request is the number in the stamp.
    pub(crate) fn send(&self, net: &mut Net, slot: usize, stamp: Stamp) {
        let digits = stamp.encode();
        let [before, digits, after] = self.body.parts(&digits);
        if net.speaks_due(slot) {
            net.send_due(slot, self.number, stamp.seq, &[before, digits, after]);
        } else if self.request {
            let (id, len) = id_bytes(stamp.seq.into());
            net.send(
                slot,
                Kind::Data,
                &[&[0], &id[..len], &self.route, before, digits, after],
            );
        } else {
            net.send(
                slot,
                Kind::Data,
                &[&[2], &self.route, before, digits, after],
            );
        }
    }
}

fn routed(route: &str) -> Vec<u8> {
    [&[route.len() as u8], route.as_bytes()].concat()
}
