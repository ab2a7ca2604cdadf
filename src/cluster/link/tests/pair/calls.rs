//! Calls between the nodes. Each ends once; the handler of one whose caller no longer waits stops.

use bytes::Bytes;
use rand::RngExt;

use super::{event::Event, world::World};
use crate::cluster::link::proto::{Frame, Kind};

impl World {
    pub(super) fn call(&mut self, node: usize, index: usize) {
        self.last_call += 1;
        let call = self.last_call;
        self.nodes[node].calls.insert(call, index);
        let mut refused = false;
        self.input(node, index, |link, _| {
            // Of both kinds, which end alike.
            let kind = [Kind::Call, Kind::NodeCall][(call % 2) as usize];
            let frame = Frame::message(kind, 0, call, "Store.Read".into(), Bytes::new());
            refused = link.call(frame).is_err();
        });
        if refused {
            self.nodes[node].calls.remove(&call);
        }
    }

    /// Sends a call without an answer, with the next number of its stream.
    pub(super) fn call_one_way(&mut self, node: usize, index: usize) {
        let number = self
            .one_way_sent
            .get(&(node, index))
            .map_or(1, |sent| sent + 1);
        let mut refused = false;
        self.input(node, index, |link, _| {
            let body = Bytes::copy_from_slice(&number.to_le_bytes());
            let frame = Frame::message(Kind::NodeCall, 0, 0, "Store.Note".into(), body);
            refused = link.call(frame).is_err();
        });
        if !refused {
            self.one_way_sent.insert((node, index), number);
        }
    }

    /// Checks that none is missing, unless a stream broke or a node was started again.
    pub(super) fn one_way_arrived(&mut self, from: usize, index: usize, number: u64) {
        let end = (from, index);
        let lossy = self.lossy.remove(&end);
        let last = self.one_way_arrived.insert(end, number).unwrap_or(0);
        assert!(
            last + 1 == number || lossy && last < number,
            "{end:?}: one-way call {number} behind {last}"
        );
    }

    /// What is under way or queued may be lost.
    pub(super) fn may_lose_all(&mut self) {
        self.lossy.extend([(0, 0), (0, 1), (1, 0), (1, 1)]);
    }

    /// The caller of one call gives up.
    pub(super) fn cancel_one(&mut self, node: usize) {
        let calls = &self.nodes[node].calls;
        if !calls.is_empty() {
            let at = self.random.random_range(0..calls.len());
            let (&call, &index) = calls.iter().nth(at).unwrap();
            self.cancel(node, index, call);
        }
    }

    /// The deadlines of all calls pass.
    pub(super) fn cancel_all(&mut self) {
        for node in 0..2 {
            for (call, index) in self.nodes[node].calls.clone() {
                self.cancel(node, index, call);
            }
        }
    }

    fn cancel(&mut self, node: usize, index: usize, call: u64) {
        self.trouble("cancelled call");
        self.nodes[node].calls.remove(&call);
        self.nodes[node].ended_calls.insert(call);
        self.input(node, index, |link, _| {
            link.cancel(call);
        });
    }

    /// A handler begins. One of three never ends by itself.
    pub(super) fn serve_call(&mut self, node: usize, index: usize, call: u64) {
        let before = self.nodes[node].served_calls.insert(call, index);
        assert!(before.is_none(), "call {call} is delivered twice");
        if !call.is_multiple_of(3) {
            let incarnation = self.nodes[node].incarnation;
            let takes = self.random.random_range(0..300);
            self.later(
                takes,
                Event::Called {
                    node,
                    incarnation,
                    call,
                },
            );
        }
    }

    /// A handler has its answer, unless it was cancelled.
    pub(super) fn called(&mut self, node: usize, call: u64) {
        if let Some(index) = self.nodes[node].served_calls.remove(&call) {
            self.input(node, index, |link, _| {
                link.reply(call, Ok(Bytes::new()));
            });
        }
    }

    pub(super) fn replied(&mut self, node: usize, call: u64) {
        let Self { nodes, .. } = self;
        let waited = nodes[node].calls.remove(&call).is_some();
        assert!(
            waited || nodes[node].ended_calls.remove(&call),
            "call {call} ends twice"
        );
        if !waited {
            self.trouble("late reply");
        }
    }

    /// The calls of a stream fail, and the peer learns of it if it can be reached.
    pub(super) fn fail_calls(&mut self, node: usize, index: usize) {
        let this = &mut self.nodes[node];
        let failed: Vec<_> = this.calls.extract_if(.., |_, of| *of == index).collect();
        for (call, _) in failed {
            this.ended_calls.insert(call);
            this.links[index].cancel(call);
        }
    }

    pub(super) fn cancel_served(&mut self, node: usize, index: usize) {
        let served = &mut self.nodes[node].served_calls;
        served.retain(|_, of| *of != index);
    }

    /// Checks that no call is left when all callers have given up.
    pub(super) fn check_calls_settled(&self) {
        for node in &self.nodes {
            assert!(node.calls.is_empty(), "{:?} never end", node.calls);
            let served = &node.served_calls;
            assert!(served.is_empty(), "{served:?} run for no caller");
        }
    }
}
