//! Owners.

use std::time::Duration;

use tokio::time::Instant;

use super::{SECOND, TICK, node, place, users, view};
use crate::{
    cluster::directory::{
        message::{
            CallId, CallerId, GateReply, GateRequest, Holding, Notice, OwnerReply, OwnerRequest,
            Place, Policy, Replaced,
        },
        owner::{Effect, Owner},
        view::{NodeId, View},
    },
    session::UserId,
};

mod unconfirmed;

/// An owner, and what it has sent.
struct Tested {
    owner: Owner,
    now: Instant,
    /// That of claims.
    policy: Policy,
    last_caller: CallerId,
    calls: Vec<(CallId, NodeId, GateRequest)>,
    replies: Vec<(CallerId, OwnerReply)>,
}

impl Tested {
    fn new(address: &str) -> Self {
        Self {
            owner: Owner::new(node(address)),
            now: Instant::now(),
            policy: Policy::Replace,
            last_caller: 0,
            calls: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// One that is in a view, in which no gate has a session.
    fn in_view(address: &str, view: &View) -> Self {
        let mut tested = Self::new(address);
        tested.set_view(view);
        tested.all_answer(&[]);
        tested
    }

    fn step(&mut self, act: impl FnOnce(&mut Owner, Instant)) {
        act(&mut self.owner, self.now);
        for effect in self.owner.take_effects() {
            match effect {
                Effect::Call {
                    call, to, request, ..
                } => self.calls.push((call, to, request)),
                Effect::Reply { caller, reply } => self.replies.push((caller, reply)),
            }
        }
    }

    fn set_view(&mut self, view: &View) {
        self.step(|owner, now| owner.set_view(view.clone(), now));
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += TICK;
            if !self.owner.is_idle() {
                self.step(Owner::tick);
            }
        }
        assert_eq!(self.owner.check_counts(), Ok(()));
    }

    fn claim_of(&mut self, from: &NodeId, session: i64, user: &UserId) -> CallerId {
        self.last_caller += 1;
        let caller = self.last_caller;
        let request = OwnerRequest::Claim {
            user: user.clone(),
            session,
            policy: self.policy,
        };
        self.step(|owner, now| owner.on_call(from, caller, request, now));
        caller
    }

    fn claim(&mut self, gate: &str, session: i64, user: &UserId) -> CallerId {
        self.claim_of(&node(gate), session, user)
    }

    fn notice(&mut self, gate: &str, notice: Notice) {
        self.step(|owner, now| owner.on_notice(&node(gate), notice, now));
    }

    fn reply(&mut self, call: CallId, reply: Option<GateReply>) {
        self.step(|owner, now| owner.on_reply(call, reply, now));
    }

    /// Takes the calls that ask gates for what they have.
    fn recovers(&mut self) -> Vec<(CallId, NodeId)> {
        let taken = self.calls.extract_if(.., |(_, _, request)| {
            matches!(request, GateRequest::Recover { .. })
        });
        taken.map(|(call, gate, _)| (call, gate)).collect()
    }

    /// Answers a call that asks a gate for what it has, and those that follow it: with these sessions.
    fn answer(&mut self, first: CallId, held: Vec<Holding>) {
        self.answer_with(first, held, Vec::new());
    }

    /// As [`answer`](Tested::answer), also with sessions that were replaced.
    fn answer_with(&mut self, first: CallId, held: Vec<Holding>, replaced: Vec<Replaced>) {
        let mut next = Some(first);
        while let Some(call) = next {
            let (held, replaced) = (held.clone(), replaced.clone());
            let before = self.calls.len();
            self.reply(call, Some(GateReply::Holdings { held, replaced }));
            let is_next = |request: &GateRequest| matches!(request, GateRequest::Recover { .. });
            let mut new = self.calls.extract_if(before.., |it| is_next(&it.2));
            next = new.next().map(|(call, ..)| call);
        }
    }

    /// Answers all calls that ask gates for what they have, and those that follow them: with these
    /// sessions, by gate.
    fn all_answer(&mut self, sessions: &[(&str, Holding)]) {
        for (call, gate) in self.recovers() {
            let held = sessions.iter().filter(|(at, _)| node(at) == gate);
            let held = held.map(|(_, holding)| holding.clone()).collect();
            self.answer(call, held);
        }
    }

    /// Takes the calls that want sessions ended.
    fn step_downs(&mut self) -> Vec<(CallId, Place)> {
        let taken = self.calls.extract_if(.., |(_, _, request)| {
            matches!(request, GateRequest::StepDown { .. })
        });
        let place = |(call, gate, request)| match request {
            GateRequest::StepDown { session, .. } => Some((call, Place { gate, session })),
            GateRequest::Recover { .. } => None,
        };
        taken.filter_map(place).collect()
    }

    /// Answers the only call that wants a session ended: with `replaced` it was for the login that
    /// the call names.
    fn stepped_down(&mut self, replaced: bool, late: bool) {
        let named = self.calls.iter().find_map(|(_, _, request)| match request {
            GateRequest::StepDown { claimant, .. } => claimant.clone(),
            GateRequest::Recover { .. } => None,
        });
        self.stepped_down_for(named.filter(|_| replaced), late);
    }

    /// Answers the only call that wants a session ended, which was ended for `claimant`.
    fn stepped_down_for(&mut self, claimant: Option<Place>, late: bool) {
        let calls = self.step_downs();
        assert_eq!(calls.len(), 1, "{calls:?}");
        let reply = GateReply::SteppedDown { claimant, late };
        self.reply(calls[0].0, Some(reply));
        assert_eq!(self.owner.check_counts(), Ok(()));
    }

    /// Returns what a claim was granted with, as `(replaced, late)`; `None` if it waits.
    fn granted(&self, caller: CallerId) -> Option<(bool, bool)> {
        match self.reply_to(caller)? {
            OwnerReply::Granted { replaced, late, .. } => Some((*replaced, *late)),
            other => panic!("{other:?}"),
        }
    }

    fn reply_to(&self, caller: CallerId) -> Option<&OwnerReply> {
        let reply = self.replies.iter().find(|(to, _)| *to == caller);
        reply.map(|(_, reply)| reply)
    }

    /// Where a user is; `None` if that is not known.
    fn places(&self, user: &UserId) -> Option<Vec<Place>> {
        let located = self.owner.locate(std::slice::from_ref(user));
        located.into_iter().next().unwrap().map(|it| it.places)
    }
}

fn holding(user: &UserId, session: i64, claim: u64) -> Holding {
    Holding {
        user: user.clone(),
        session,
        claim,
        closing: false,
    }
}

#[test]
fn an_answer_to_an_earlier_ownership_completes_no_slot() {
    // The gate has promised nothing to the owner of view 3. That of view 2 may grant still.
    let (first, third) = (view(1, &["a", "o"]), view(3, &["a", "o"]));
    let user = users(&[(&first, "o")]).next().unwrap();
    let mut tested = Tested::new("o");
    tested.set_view(&first);
    let earlier = tested.recovers();
    tested.set_view(&third);
    let claim = tested.claim("a", 1, &user);
    for (call, _) in earlier {
        let (held, replaced) = (Vec::new(), Vec::new());
        tested.reply(call, Some(GateReply::Holdings { held, replaced }));
    }
    assert_eq!(tested.places(&user), None);
    assert_eq!(tested.granted(claim), None);
    tested.all_answer(&[]);
    assert_eq!(tested.granted(claim), Some((false, false)));
}

#[test]
fn a_gate_that_has_left_the_view_gets_no_claim_and_leaves_no_entry() {
    let (first, second) = (view(1, &["a", "b", "o"]), view(2, &["b", "o"]));
    let user = users(&[(&first, "o"), (&second, "o")]).next().unwrap();
    let former_run = |address: &str| NodeId {
        incarnation: 0,
        ..node(address)
    };
    let mut tested = Tested::in_view("o", &first);
    tested.set_view(&second);
    for gate in [node("a"), former_run("b")] {
        let claim = tested.claim_of(&gate, 1, &user);
        assert_eq!(tested.reply_to(claim), Some(&OwnerReply::Retry), "{gate:?}");
        assert_eq!(tested.places(&user), Some(Vec::new()));
    }
    // One that was never in a view may be ahead of this node.
    let claim = tested.claim("c", 1, &user);
    assert_eq!(tested.granted(claim), Some((false, false)));
    // It is when it is in the next one.
    tested.set_view(&view(3, &["b", "o"]));
    assert_eq!(tested.places(&user), Some(Vec::new()));
}

#[test]
fn a_login_says_what_has_ended_for_it_also_when_it_is_made_again() {
    let view = view(1, &["a", "b", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    for (replaced, late) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut tested = Tested::in_view("o", &view);
        tested.claim("a", 1, &user);
        let claim = tested.claim("b", 2, &user);
        assert_eq!(tested.granted(claim), None);
        tested.stepped_down(replaced, late);
        assert_eq!(tested.granted(claim), Some((replaced, late)));
        // The reply was lost.
        let again = tested.claim("b", 2, &user);
        assert_eq!(tested.granted(again), Some((replaced, late)));
        // The next login has ended that one only.
        let next = tested.claim("a", 3, &user);
        tested.stepped_down(true, false);
        assert_eq!(tested.granted(next), Some((true, false)));
    }
}

#[test]
fn a_login_that_learns_of_the_end_of_a_session_for_another_says_nothing_of_it() {
    let view = view(1, &["a", "b", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    let mut tested = Tested::in_view("o", &view);
    tested.claim("a", 1, &user);
    // Its gate has ended the session for the login of 2, whose claim is made again later.
    let other = tested.claim("b", 3, &user);
    tested.stepped_down_for(Some(place("b", 2)), false);
    assert_eq!(tested.granted(other), Some((false, false)));
    let again = tested.claim("b", 2, &user);
    tested.stepped_down(false, false);
    assert_eq!(tested.granted(again), Some((true, false)));
}

#[test]
fn all_logins_that_wait_are_late_if_close_callbacks_are() {
    let view = view(1, &["a", "b", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    let mut tested = Tested::in_view("o", &view);
    tested.claim("a", 1, &user);
    let (first, second) = (tested.claim("b", 2, &user), tested.claim("a", 3, &user));
    tested.stepped_down(true, true);
    assert_eq!(tested.granted(first), Some((true, true)));
    tested.stepped_down(true, false);
    assert_eq!(tested.granted(second), Some((true, true)));
    let third = tested.claim("b", 4, &user);
    tested.stepped_down(true, false);
    assert_eq!(tested.granted(third), Some((true, false)));
}

#[test]
fn a_login_is_late_if_the_gate_of_the_other_session_leaves_the_view() {
    let (first, second) = (view(1, &["a", "b", "o"]), view(2, &["b", "o"]));
    let user = users(&[(&first, "o"), (&second, "o")]).next().unwrap();
    let mut tested = Tested::in_view("o", &first);
    tested.claim("a", 1, &user);
    let claim = tested.claim("b", 2, &user);
    tested.set_view(&second);
    assert_eq!(tested.granted(claim), Some((false, true)));
    assert_eq!(tested.places(&user), Some(vec![place("b", 2)]));
}

#[test]
fn a_login_that_was_given_up_ends_no_session() {
    let view = view(1, &["a", "b", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    let mut tested = Tested::new("o");
    tested.set_view(&view);
    let claim = tested.claim("b", 2, &user);
    tested.notice("b", Notice::Released(vec![holding(&user, 2, 0)]));
    tested.all_answer(&[("a", holding(&user, 1, 9))]);
    assert_eq!(tested.reply_to(claim), Some(&OwnerReply::Retry));
    assert_eq!(tested.step_downs(), []);
    assert_eq!(tested.places(&user), Some(vec![place("a", 1)]));
}

#[test]
fn a_login_waits_for_a_gate_that_leaves_also_with_the_next_owner() {
    let (first, second) = (view(1, &["a", "b", "o"]), view(2, &["b", "o"]));
    for owner in ["o", "a"] {
        let user = users(&[(&first, owner), (&second, "o")]).next().unwrap();
        let mut tested = Tested::in_view("o", &first);
        if owner == "o" {
            tested.claim("a", 1, &user);
        }
        tested.notice("a", Notice::Leaving(vec![holding(&user, 1, 9)]));
        tested.set_view(&second);
        tested.all_answer(&[]);
        let claim = tested.claim("b", 2, &user);
        assert_eq!(tested.granted(claim), None);
        tested.stepped_down(false, false);
        assert_eq!(tested.granted(claim), Some((false, false)));
    }
}

#[test]
fn a_session_that_ended_while_its_gate_leaves_does_not_come_back_with_the_next_view() {
    let (first, second) = (view(1, &["a", "b", "o"]), view(2, &["b", "o"]));
    let user = users(&[(&first, "a"), (&second, "o")]).next().unwrap();
    let mut tested = Tested::in_view("o", &first);
    let sessions = vec![holding(&user, 1, 9), holding(&user, 2, 8)];
    tested.notice("a", Notice::Leaving(sessions));
    tested.notice("a", Notice::Released(vec![holding(&user, 1, 9)]));
    tested.set_view(&second);
    tested.all_answer(&[]);
    assert_eq!(tested.places(&user), Some(vec![place("a", 2)]));
    // The gate is waited for no longer than this.
    tested.wait(11 * SECOND);
    assert_eq!(tested.places(&user), Some(Vec::new()));
    assert!(tested.owner.is_idle());
}

#[test]
fn claims_that_wait_are_bounded() {
    // More of one user, and of all.
    const OF_USER: usize = 16;
    const OF_ALL: usize = 64 * 1024;
    let alone = view(1, &["o"]);
    let mut users = users(&[]);
    let mut tested = Tested::new("o");
    tested.set_view(&alone);
    for user in users.by_ref().take(OF_ALL / OF_USER) {
        (1..=OF_USER as i64).for_each(|session| {
            tested.claim("o", session, &user);
        });
        assert_eq!(tested.replies, []);
    }
    let beyond = tested.claim("o", 0, &UserId::from(1));
    assert_eq!(tested.reply_to(beyond), Some(&OwnerReply::Retry));
    let user = users.next().unwrap();
    let beyond = tested.claim("o", 1, &user);
    assert_eq!(tested.reply_to(beyond), Some(&OwnerReply::Retry));
    // They are made again when the slots may have had another owner.
    tested.set_view(&view(3, &["o"]));
    assert_eq!(tested.replies.len(), OF_ALL + 2);
    assert!(tested.owner.is_idle());
    let claim = tested.claim("o", 1, &user);
    assert_eq!(tested.reply_to(claim), None);
    tested.all_answer(&[]);
    assert_eq!(tested.granted(claim), Some((false, false)));
}

#[test]
fn a_claim_that_is_made_again_waits_no_longer_for_that() {
    let view = view(1, &["a", "b", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    let mut tested = Tested::in_view("o", &view);
    tested.claim("a", 1, &user);
    let first = tested.claim("b", 2, &user);
    tested.wait(5 * SECOND);
    let again = tested.claim("b", 2, &user);
    assert_eq!(tested.reply_to(first), Some(&OwnerReply::Retry));
    assert_eq!(tested.granted(again), None);
    tested.wait(2 * SECOND);
    assert_eq!(tested.granted(again), Some((false, true)));
}

#[test]
fn a_call_that_has_failed_is_repeated_until_its_gate_leaves_the_view() {
    let view_of = |number, gate: &str| view(number, &[gate, "b", "o"]);
    let (first, second) = (view_of(1, "a"), view_of(2, "c"));
    let user = users(&[(&first, "o"), (&second, "o")]).next().unwrap();
    let mut tested = Tested::in_view("o", &first);
    tested.claim("a", 1, &user);
    let claim = tested.claim("b", 2, &user);
    for _ in 0..3 {
        let calls = tested.step_downs();
        assert_eq!(calls.len(), 1);
        tested.reply(calls[0].0, None);
        tested.wait(SECOND);
    }
    let calls = tested.step_downs();
    tested.set_view(&second);
    assert_eq!(tested.granted(claim), Some((false, true)));
    tested.all_answer(&[]);
    tested.reply(calls[0].0, None);
    tested.wait(SECOND);
    assert_eq!(tested.calls, []);
    assert!(tested.owner.is_idle());
}

/// No user can log in until gates have answered, and the link to one that joins is there a moment later.
#[test]
fn a_question_that_has_failed_is_repeated_soon_and_then_less_often() {
    let mut tested = Tested::new("o");
    tested.set_view(&view(1, &["a", "o"]));
    let is_to_gate = |(_, gate): &(CallId, NodeId)| *gate == node("a");
    for pause in [10, 20, 40, 80, 160, 200, 200] {
        let calls: Vec<_> = tested.recovers().into_iter().filter(is_to_gate).collect();
        assert_eq!(calls.len(), 1);
        tested.reply(calls[0].0, None);
        let due = tested.now + Duration::from_millis(pause);
        assert_eq!(tested.owner.next_retry(), Some(due));
        tested.now = due;
        tested.step(Owner::tick);
        assert_eq!(tested.owner.next_retry(), None);
    }
}
