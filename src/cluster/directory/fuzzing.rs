//! Properties of a directory whose peers send anything, shared by the fuzz target and the tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use self::{
    input::{Input, SLOTS},
    sent::{gate_reply_sent, gate_request_sent, notice_sent, owner_reply_sent, owner_request_sent},
};
use super::{
    holdings::{self, Holdings},
    message::{CallId, CallerId, GateReply, GateRequest, Notice, OwnerReply, OwnerRequest, Policy},
    owner::{self, Owner},
    view::{NodeId, View},
    wire,
};

mod input;
mod sent;

/// Longer than all that waits: claims have 20 s.
const ALL_DEADLINES: Duration = Duration::from_secs(60);

const SECOND: Duration = Duration::from_secs(1);

/// Runs the input as a history of one node, as an owner and as a gate: calls, notices and replies of
/// any content and in any order, between views, logins and time that passes. Messages survive
/// encoding, counts are right after each step, each call is answered once, and nothing waits for ever.
pub(crate) fn check(data: &[u8]) {
    let mut node = Node::new();
    let mut input = Input(data);
    while let Some(choice) = input.0.split_off_first() {
        node.step(*choice, &mut input);
        node.check();
    }
    node.end();
}

/// One node of the directory.
struct Node {
    owner: Owner,
    gate: Holdings,
    now: Instant,
    last_view: u64,
    last_caller: CallerId,
    /// Calls of gates, and of owners, that have no answer yet.
    gates: BTreeSet<CallerId>,
    owners: BTreeSet<CallerId>,
    /// Calls of this node that have no reply yet, as an owner and as a gate.
    to_gates: Vec<CallId>,
    to_owners: Vec<CallId>,
    /// Logins that have not ended, by session.
    logins: BTreeMap<i64, usize>,
    /// Sessions whose close callbacks are awaited.
    closing: Vec<i64>,
}

impl Node {
    fn new() -> Self {
        Self {
            owner: Owner::new(own()),
            gate: Holdings::new(),
            now: Instant::now(),
            last_view: 0,
            last_caller: 0,
            gates: BTreeSet::new(),
            owners: BTreeSet::new(),
            to_gates: Vec::new(),
            to_owners: Vec::new(),
            logins: BTreeMap::new(),
            closing: Vec::new(),
        }
    }

    fn step(&mut self, choice: u8, input: &mut Input<'_>) {
        let now = self.now;
        match choice % 18 {
            0 | 1 => self.is_called_by_a_gate(input),
            2 => self.is_notified(input),
            3 | 4 => self.is_answered_by_a_gate(input),
            5 => self.goes_on_to_a_view(input),
            6 => self.waits(SECOND / 10 * u32::from(input.byte())),
            7 | 8 => {
                let (session, user) = (input.session(), input.user());
                *self.logins.entry(session).or_default() += 1;
                self.gate.login(session, user, policy(input), now);
            }
            9 => self
                .gate
                .bind(input.session(), input.user(), input.number()),
            10 => self.gate.unbind(input.session()),
            11 => self.gate.closed(input.session(), now),
            12 => {
                if let Some(session) = taken(&mut self.closing, input) {
                    self.gate.callbacks_done(session, input.flag(), now);
                }
            }
            13 | 14 => self.is_called_by_an_owner(input),
            15 => self.is_answered_by_an_owner(input),
            16 => self.gate.on_heartbeat(input.number()),
            _ => self.gate.leave(&input.node()),
        }
    }

    fn is_called_by_a_gate(&mut self, input: &mut Input<'_>) {
        let request = match input.byte() % 4 {
            0 | 1 => Some(OwnerRequest::Claim {
                user: input.user(),
                session: input.session(),
                policy: policy(input),
            }),
            2 => {
                let slots = input.slots().into_iter();
                Some(OwnerRequest::Compare(
                    slots.map(|slot| (slot, input.number())).collect(),
                ))
            }
            _ => match input.flag() {
                true => input
                    .message()
                    .and_then(|claim| wire::claim_request(&claim).ok()),
                false => input
                    .message()
                    .map(|compare| wire::compare_request(&compare)),
            },
        };
        let Some(request) = request else { return };
        assert_eq!(owner_request_sent(&request), request);
        self.last_caller += 1;
        self.gates.insert(self.last_caller);
        self.owner
            .on_call(&input.node(), self.last_caller, request, self.now);
    }

    fn is_called_by_an_owner(&mut self, input: &mut Input<'_>) {
        let request = match input.byte() % 4 {
            0 | 1 => Some(GateRequest::StepDown {
                view: input.number(),
                user: input.user(),
                session: input.session(),
                ask: input.flag(),
                claimant: input.flag().then(|| input.place()),
            }),
            2 => Some(GateRequest::Recover {
                view: input.number(),
                slots: input.slots(),
            }),
            _ => match input.flag() {
                true => input
                    .message()
                    .and_then(|step| wire::step_down_request(&step).ok()),
                false => input
                    .message()
                    .map(|recover| wire::recover_request(&recover)),
            },
        };
        let Some(request) = request else { return };
        assert_eq!(gate_request_sent(&request), request);
        self.last_caller += 1;
        self.owners.insert(self.last_caller);
        self.gate
            .on_call(&input.node(), self.last_caller, request, self.now);
    }

    fn is_notified(&mut self, input: &mut Input<'_>) {
        let notices = match input.byte() % 4 {
            0 => vec![Notice::Bound(input.holdings())],
            1 => vec![Notice::Released(input.holdings())],
            2 => vec![Notice::Leaving(input.holdings())],
            _ => {
                let message = input.message();
                message
                    .and_then(|message| wire::notices(&message).ok())
                    .unwrap_or_default()
            }
        };
        let from = input.node();
        for notice in notices {
            self.owner.on_notice(&from, notice, self.now);
        }
    }

    fn is_answered_by_a_gate(&mut self, input: &mut Input<'_>) {
        let Some(call) = taken(&mut self.to_gates, input) else {
            return;
        };
        let reply = match input.byte() % 8 {
            0 => None,
            1 => Some(GateReply::Lives),
            2 => Some(GateReply::Stale),
            3 | 4 => Some(GateReply::SteppedDown {
                claimant: input.flag().then(|| input.place()),
                late: input.flag(),
            }),
            5 | 6 => Some(GateReply::Holdings {
                held: input.holdings(),
                replaced: input.replaced(),
            }),
            _ => match input.flag() {
                true => input.message().map(|reply| wire::stepped_down(&reply)),
                false => input
                    .message()
                    .and_then(|reply| wire::recovered(&reply).ok()),
            },
        };
        if let Some(reply) = &reply {
            assert_eq!(gate_reply_sent(reply), *reply);
        }
        self.owner.on_reply(call, reply, self.now);
    }

    fn is_answered_by_an_owner(&mut self, input: &mut Input<'_>) {
        let Some(call) = taken(&mut self.to_owners, input) else {
            return;
        };
        let reply = match input.byte() % 8 {
            0 => None,
            1 => Some(OwnerReply::Refused),
            2 => Some(OwnerReply::Retry),
            3..6 => Some(OwnerReply::Granted {
                view: input.number(),
                claim: input.number(),
                replaced: input.flag(),
                late: input.flag(),
            }),
            6 => Some(OwnerReply::Compared(input.slots())),
            _ => match input.flag() {
                true => input.message().map(|reply| wire::claimed(&reply)),
                false => input.message().map(|reply| wire::compared(&reply)),
            },
        };
        if let Some(reply) = &reply {
            assert_eq!(owner_reply_sent(reply), *reply);
        }
        self.gate.on_reply(call, reply, self.now);
    }

    /// A later view, or one without a number, of any nodes and gates.
    fn goes_on_to_a_view(&mut self, input: &mut Input<'_>) {
        let (number, nodes, gates) = (input.byte(), input.byte(), input.byte());
        self.last_view += u64::from(number % 3);
        let number = if number == 255 { 0 } else { self.last_view };
        let all = ["a", "b", "c", "own"].iter().zip(0..);
        let nodes = all
            .filter(|(_, at)| nodes & 1 << at != 0)
            .map(|(address, at)| NodeId {
                address: (*address).into(),
                incarnation: u64::from(nodes >> (at + 4) & 1) + 1,
            });
        let is_gate = |node: &NodeId| gates & 1 << (node.address.len() % 4) != 0;
        let view = View::of_slots(SLOTS, number, nodes.collect(), input.byte().into());
        let view = view.with_gates(is_gate);
        self.gate.set_view(view.clone());
        self.owner.set_view(view, self.now);
    }

    fn waits(&mut self, time: Duration) {
        self.now += time;
        self.owner.tick(self.now);
        self.gate.tick(self.now);
    }

    /// Takes what the node wants done, and checks what it counts.
    fn check(&mut self) {
        for effect in self.owner.take_effects() {
            match effect {
                owner::Effect::Reply { caller, reply } => {
                    assert!(self.gates.remove(&caller), "{reply:?} to no caller");
                    assert_eq!(owner_reply_sent(&reply), reply);
                }
                owner::Effect::Call { call, request, .. } => {
                    assert_eq!(gate_request_sent(&request), request);
                    self.to_gates.push(call);
                }
            }
        }
        for effect in self.gate.take_effects() {
            match effect {
                holdings::Effect::Reply { caller, reply } => {
                    assert!(self.owners.remove(&caller), "{reply:?} to no caller");
                    assert_eq!(gate_reply_sent(&reply), reply);
                }
                holdings::Effect::Call { call, request, .. } => {
                    assert_eq!(owner_request_sent(&request), request);
                    self.to_owners.push(call);
                }
                holdings::Effect::Send { notice, .. } => {
                    assert_eq!(notice_sent(&notice), Some(vec![notice]));
                }
                holdings::Effect::End { session } | holdings::Effect::AwaitEnd { session } => {
                    self.closing.push(session);
                }
                holdings::Effect::LoggedIn {
                    session, outcome, ..
                } => {
                    let logins = self.logins.get_mut(&session).filter(|logins| **logins > 0);
                    let logins = logins.unwrap_or_else(|| panic!("{outcome:?} of no login"));
                    *logins -= 1;
                }
            }
        }
        assert_eq!(self.owner.check_counts(), Ok(()));
    }

    /// Whatever was sent, and although nothing is answered any more, nothing waits for ever.
    fn end(&mut self) {
        // A gate compares what it has with the owners of all slots once there are some.
        self.gate.set_view(View::new(u64::MAX, vec![own()], 0));
        let end = self.now + ALL_DEADLINES;
        while self.now < end {
            self.waits(SECOND);
            self.check();
        }
        assert_eq!(self.gates, BTreeSet::new(), "claims without an answer");
        assert_eq!(
            self.owners,
            BTreeSet::new(),
            "calls of owners without an answer"
        );
        assert!(self.gate.is_idle(), "{:?}", self.gate);
    }
}

fn own() -> NodeId {
    NodeId {
        address: "own".into(),
        incarnation: 1,
    }
}

fn policy(input: &mut Input<'_>) -> Policy {
    match input.flag() {
        true => Policy::Reject,
        false => Policy::Replace,
    }
}

/// Takes one of some.
fn taken<T>(some: &mut Vec<T>, input: &mut Input<'_>) -> Option<T> {
    let at = usize::from(input.byte()).checked_rem(some.len())?;
    Some(some.swap_remove(at))
}
