//! Gates.

use std::time::Duration;

use tokio::time::Instant;

use super::{SECOND, TICK, node, place, users, view};
use crate::{
    cluster::directory::{
        holdings::{Effect, Holdings, Outcome},
        message::{
            CallId, CallerId, GateReply, GateRequest, Holding, Notice, OwnerReply, OwnerRequest,
            Policy,
        },
        slots::slot_of,
        view::{NodeId, View},
    },
    session::UserId,
};

/// A gate, and what it has sent.
struct Tested {
    gate: Holdings,
    now: Instant,
    calls: Vec<(CallId, NodeId, OwnerRequest)>,
    notices: Vec<(NodeId, Notice)>,
    replies: Vec<(CallerId, GateReply)>,
    logins: Vec<Outcome>,
}

impl Tested {
    fn in_view(view: &View) -> Self {
        let mut tested = Self {
            gate: Holdings::new(),
            now: Instant::now(),
            calls: Vec::new(),
            notices: Vec::new(),
            replies: Vec::new(),
            logins: Vec::new(),
        };
        tested.gate.set_view(view.clone());
        tested
    }

    fn step(&mut self, act: impl FnOnce(&mut Holdings, Instant)) {
        act(&mut self.gate, self.now);
        for effect in self.gate.take_effects() {
            match effect {
                Effect::Call { call, to, request } => self.calls.push((call, to, request)),
                Effect::Send { to, notice } => self.notices.push((to, notice)),
                Effect::Reply { caller, reply } => self.replies.push((caller, reply)),
                Effect::LoggedIn { outcome, .. } => self.logins.push(outcome),
                Effect::End { .. } | Effect::AwaitEnd { .. } => {}
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += TICK;
            if !self.gate.is_idle() {
                self.step(Holdings::tick);
            }
        }
    }

    /// Answers that the owners have the same in all slots. Returns which owners were asked.
    fn all_equal(&mut self) -> Vec<NodeId> {
        let mut asked = Vec::new();
        for (call, to, request) in std::mem::take(&mut self.calls) {
            let OwnerRequest::Compare(sums) = request else {
                continue;
            };
            let equal = sums.iter().map(|(slot, _)| *slot).collect();
            let reply = Some(OwnerReply::Compared(equal));
            self.step(|gate, now| gate.on_reply(call, reply, now));
            asked.push(to);
        }
        asked
    }

    fn login(&mut self, session: i64, user: &UserId) {
        self.step(|gate, now| gate.login(session, user.clone(), Policy::Replace, now));
    }

    /// Grants the last claim under a view.
    fn grant(&mut self, view: u64) {
        let (call, ..) = self.calls.pop().unwrap();
        let granted = OwnerReply::Granted {
            view,
            claim: 1,
            replaced: false,
            late: false,
        };
        self.step(|gate, now| gate.on_reply(call, Some(granted), now));
    }

    /// Logs a session in, which is granted.
    fn log_in(&mut self, session: i64, user: &UserId) {
        self.login(session, user);
        self.grant(1);
    }

    /// An owner wants a session to end for one that has the number of the call.
    fn step_down(&mut self, owner: &str, caller: CallerId, user: &UserId, session: i64) {
        let request = GateRequest::StepDown {
            view: 1,
            user: user.clone(),
            session,
            ask: false,
            claimant: Some(place("c", caller as i64)),
        };
        self.step(|gate, now| gate.on_call(&node(owner), caller, request, now));
    }

    /// Takes the reply to a caller: whether the session was ended for the one of call 1, and whether
    /// that is late; `None` if there is none.
    fn stepped_down(&mut self, caller: CallerId) -> Option<(bool, bool)> {
        let mut to_caller = self.replies.extract_if(.., |(to, _)| *to == caller);
        match to_caller.next()?.1 {
            GateReply::SteppedDown { claimant, late } => {
                let replaced = claimant.is_some();
                assert!(!replaced || claimant == Some(place("c", 1)), "{claimant:?}");
                Some((replaced, late))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_owner_that_asks_again_for_the_end_of_a_session_has_the_same_answer() {
    let view = view(1, &["a", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    for late in [false, true] {
        let mut tested = Tested::in_view(&view);
        tested.log_in(1, &user);
        tested.step_down("o", 1, &user, 1);
        assert_eq!(tested.stepped_down(1), None);
        tested.step(|gate, now| gate.callbacks_done(1, late, now));
        assert_eq!(tested.stepped_down(1), Some((true, late)));
        // The answer was lost.
        tested.step_down("o", 2, &user, 1);
        assert_eq!(tested.stepped_down(2), Some((true, late)));
        tested.step_down("o", 3, &UserId::from("another"), 1);
        assert_eq!(tested.stepped_down(3), Some((false, false)));
    }
}

#[test]
fn close_callbacks_have_five_seconds_from_when_a_login_waits_for_them() {
    let view = view(1, &["a", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    for waits in [4, 6] {
        let mut tested = Tested::in_view(&view);
        tested.log_in(1, &user);
        tested.step(|gate, now| gate.closed(1, now));
        tested.wait(4 * SECOND);
        tested.step_down("o", 1, &user, 1);
        tested.wait(waits * SECOND);
        tested.step(|gate, now| gate.callbacks_done(1, false, now));
        assert_eq!(tested.stepped_down(1), Some((false, waits > 5)));
    }
}

#[test]
fn a_session_that_ends_for_a_former_owner_is_compared() {
    let (first, second) = (view(1, &["a", "o", "p"]), view(2, &["a", "p"]));
    let owners = [(&first, "o"), (&second, "p")];
    let mut users = users(&owners);
    let (user, other) = (users.next().unwrap(), users.next().unwrap());
    let mut tested = Tested::in_view(&first);
    tested.log_in(1, &user);
    tested.wait(6 * SECOND);
    assert_eq!(tested.all_equal(), [node("o")]);
    // Another slot changes, so that the next comparison is soon.
    tested.step(|gate, _| gate.bind(2, other.clone(), 0));
    tested.wait(4 * SECOND);
    tested.step_down("o", 1, &user, 1);
    tested.step(|gate, _| gate.set_view(second.clone()));
    let recover = GateRequest::Recover {
        view: 2,
        slots: vec![slot_of(&user)],
    };
    tested.step(|gate, now| gate.on_call(&node("p"), 2, recover, now));
    // The next owner knows that the session closes.
    tested.wait(2 * SECOND);
    assert_eq!(tested.all_equal(), [node("p")]);
    assert!(tested.notices.iter().all(|(to, _)| *to == node("o")));
    // Its end is said to the former one.
    tested.step(|gate, now| gate.callbacks_done(1, false, now));
    assert_eq!(tested.stepped_down(1), Some((true, false)));
    assert!(tested.notices.iter().all(|(to, _)| *to == node("o")));
    tested.wait(6 * SECOND);
    assert_eq!(tested.all_equal(), [node("p")]);
    assert!(tested.gate.is_idle());
}

#[test]
fn a_slot_is_compared_for_as_long_as_an_owner_may_grant_a_claim_that_was_given_up() {
    let view = view(1, &["a", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    let mut tested = Tested::in_view(&view);
    tested.step(|gate, now| gate.login(1, user.clone(), Policy::Replace, now));
    // The notice of this is lost. The owner keeps the claim for 20 seconds.
    tested.step(|gate, _| gate.unbind(1));
    let given_up = tested.now;
    let mut last = given_up;
    while !tested.gate.is_idle() {
        tested.wait(TICK);
        if !tested.all_equal().is_empty() {
            last = tested.now;
        }
    }
    let compared = last - given_up;
    assert!(
        compared > 20 * SECOND && compared < 30 * SECOND,
        "{compared:?}"
    );
}

/// That a login was granted, which has replaced none.
fn granted(late: bool) -> Outcome {
    let replaced = false;
    Outcome::Granted { replaced, late }
}

#[test]
fn a_session_keeps_its_claim_when_it_is_bound_and_logs_in_again_as_its_user() {
    let view = view(1, &["a", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    let mut tested = Tested::in_view(&view);
    tested.log_in(1, &user);
    // As the gate does behind each login.
    tested.step(|gate, _| gate.bind(1, user.clone(), 0));
    assert_eq!(tested.gate.claim_of(1), Some(1));
    tested.login(1, &user);
    assert_eq!(tested.logins, [granted(false); 2]);
    assert_eq!(tested.calls, []);
    assert_eq!(tested.notices, []);
}

#[test]
fn a_session_that_logs_in_as_another_user_is_released() {
    let view = view(1, &["a", "o"]);
    let owners = [(&view, "o")];
    let mut users = users(&owners);
    let (first, second) = (users.next().unwrap(), users.next().unwrap());
    let mut tested = Tested::in_view(&view);
    tested.log_in(1, &first);
    tested.login(1, &second);
    assert_eq!(tested.logins, [granted(false)], "not yet");
    let released = Holding {
        user: first,
        session: 1,
        claim: 1,
        closing: false,
    };
    let notice = Notice::Released(vec![released]);
    assert_eq!(tested.notices, [(node("o"), notice)]);
    tested.grant(1);
    assert_eq!(tested.logins, [granted(false); 2]);
}

#[test]
fn a_grant_of_an_earlier_view_is_taken_late_when_there_is_no_other_for_three_seconds() {
    let view = view(2, &["a", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    let mut tested = Tested::in_view(&view);
    tested.login(1, &user);
    for _ in 0..5 {
        tested.grant(1);
        assert_eq!(tested.logins, []);
        tested.wait(Duration::from_millis(500));
    }
    tested.wait(SECOND);
    tested.grant(1);
    assert_eq!(tested.logins, [granted(true)]);
}

#[test]
fn grants_without_a_number_count_when_a_basic_master_has_come() {
    let (numbered, basic) = (view(5, &["a", "o"]), view(0, &["a", "o"]));
    let user = users(&[(&basic, "o")]).next().unwrap();
    let mut tested = Tested::in_view(&numbered);
    tested.gate.set_view(basic);
    tested.login(1, &user);
    tested.grant(0);
    assert_eq!(tested.logins, [granted(false)]);
}

#[test]
fn an_owner_ends_no_session_when_a_later_one_has_asked() {
    let (first, third) = (view(1, &["a", "o"]), view(3, &["a", "p"]));
    let user = users(&[(&first, "o"), (&third, "p")]).next().unwrap();
    let mut tested = Tested::in_view(&first);
    tested.log_in(1, &user);
    // The owner of view 3 is ahead of the gate.
    let recover = GateRequest::Recover {
        view: 3,
        slots: vec![slot_of(&user)],
    };
    tested.step(|gate, now| gate.on_call(&node("p"), 1, recover, now));
    tested.replies.clear();
    tested.step_down("o", 2, &user, 1);
    assert_eq!(tested.replies, [(2, GateReply::Stale)]);
    assert_eq!(tested.gate.claim_of(1), Some(1));
    tested.step(|gate, now| gate.closed(1, now));
    let told: Vec<_> = tested.notices.iter().map(|(to, _)| to.clone()).collect();
    assert_eq!(told, [node("p")], "the owner that is ahead");
}

#[test]
fn a_session_whose_login_is_refused_has_no_user_and_says_so() {
    let view = view(1, &["a", "o"]);
    let user = users(&[(&view, "o")]).next().unwrap();
    let mut tested = Tested::in_view(&view);
    tested.login(1, &user);
    assert_eq!(tested.gate.claim_of(1), None, "not decided");
    let (call, ..) = tested.calls.pop().unwrap();
    tested.step(|gate, now| gate.on_reply(call, Some(OwnerReply::Refused), now));
    assert_eq!(tested.logins, [Outcome::Refused]);
    assert_eq!(tested.gate.claim_of(1), Some(0));
    let released = Holding {
        user,
        session: 1,
        claim: 0,
        closing: false,
    };
    let notice = Notice::Released(vec![released]);
    assert_eq!(tested.notices, [(node("o"), notice)]);
}

#[test]
fn a_grant_of_a_claim_that_was_given_up_is_none_of_the_next_user() {
    let view = view(1, &["a", "o"]);
    let owned: Vec<_> = users(&[(&view, "o")]).take(2).collect();
    let (first, second) = (&owned[0], &owned[1]);
    let mut tested = Tested::in_view(&view);
    tested.login(1, first);
    let (call, ..) = tested.calls.pop().unwrap();
    tested.login(1, second);
    assert_eq!(tested.logins, [Outcome::Ended], "the first");
    let granted = OwnerReply::Granted {
        view: 1,
        claim: 1,
        replaced: false,
        late: false,
    };
    tested.step(|gate, now| gate.on_reply(call, Some(granted), now));
    assert_eq!(tested.gate.claim_of(1), None, "not decided");
    tested.grant(1);
    let (replaced, late) = (false, false);
    assert_eq!(tested.logins[1..], [Outcome::Granted { replaced, late }]);
}
