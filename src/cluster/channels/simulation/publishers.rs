//! What publishers do: one publication after the other, each until it is reported or given up.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;

use super::{
    nodes::{Call, Event, Packet, Publisher},
    world::{World, channel_name},
};
use crate::cluster::channels::{history::Keep, request::Publish};

impl World {
    pub(super) fn publish(&mut self, publisher: usize) {
        let Publisher {
            node,
            channel,
            number,
            attempt,
            kept,
            ..
        } = self.publishers[publisher];
        let call = Call { publisher, attempt };
        let name = channel_name(channel);
        let owner = self.nodes[node].view.owner(&name).cloned();
        let (true, Some(owner)) = (self.nodes[node].alive, owner) else {
            return self.next_publication(publisher);
        };
        let mut body = (publisher as u64).to_le_bytes().to_vec();
        body.extend(number.to_le_bytes());
        let keep = (kept && self.random.random_bool(0.95)).then_some(Keep {
            count: 20,
            ttl: Duration::from_secs(5),
        });
        let publish = Publish {
            channel: name,
            route: "on".into(),
            body: Bytes::from(body),
            keep,
        };
        let last = self.oracle.last.get(&*publish.channel);
        self.publishers[publisher].behind = last.copied().unwrap_or_default();
        if self.is_settled() {
            let payload = (publisher as u64, number);
            self.settled.entry(channel).or_default().insert(payload);
        }
        self.send(node, &owner, Packet::Publish(call, publish));
        self.later(3_000, Event::GiveUp(call));
    }

    pub(super) fn published(&mut self, call: Call, published: bool) {
        if self.publishers[call.publisher].attempt != call.attempt {
            return;
        }
        if published {
            return self.next_publication(call.publisher);
        }
        self.oracle.count("moved");
        let publisher = &mut self.publishers[call.publisher];
        publisher.attempt += 1;
        let again = Event::Attempt {
            publisher: call.publisher,
            attempt: publisher.attempt,
        };
        self.later(20, again);
    }

    pub(super) fn next_publication(&mut self, publisher: usize) {
        let at = &mut self.publishers[publisher];
        at.number += 1;
        at.attempt += 1;
        let next = Event::Attempt {
            publisher,
            attempt: at.attempt,
        };
        let pause = self.random.random_range(0..200);
        self.later(pause, next);
    }
}
