//! Owners, and what gates do not confirm: gates that are silent, have left, or come back.

use super::*;
use crate::cluster::directory::{message::Replaced, slots::slot_of};

const OTHERS: [&str; 4] = ["a", "b", "c", "o"];

/// Views one after the other: with the gate `a`, without it, and with it again.
fn coming_and_going() -> [View; 3] {
    [
        view(1, &OTHERS),
        view(2, &["b", "c", "o"]),
        view(3, &OTHERS),
    ]
}

/// A user whom `o` owns in all these views.
fn user_of(views: &[View]) -> UserId {
    let owned: Vec<_> = views.iter().map(|view| (view, "o")).collect();
    users(&owned).next().unwrap()
}

impl Tested {
    /// Goes on to a view in which `a` does not answer. Returns its call.
    fn without_a(&mut self, view: &View) -> CallId {
        self.set_view(view);
        let (mut silent, others): (Vec<_>, Vec<_>) = self
            .recovers()
            .into_iter()
            .partition(|(_, gate)| *gate == node("a"));
        for (call, _) in others {
            self.answer(call, Vec::new());
        }
        assert_eq!(silent.len(), 1, "{silent:?}");
        silent.remove(0).0
    }

    /// Answers the call that wants this session ended.
    fn answer_for(&mut self, place: &Place, reply: GateReply) {
        let mut calls = self.step_downs();
        let at = calls.iter().position(|(_, wanted)| wanted == place);
        let (call, _) = calls.remove(at.unwrap());
        self.reply(call, Some(reply));
        assert_eq!(calls, [], "no other");
    }
}

#[test]
fn a_session_whose_callbacks_run_is_not_located_and_a_login_waits_for_it() {
    let view = view(1, &OTHERS);
    let user = user_of(std::slice::from_ref(&view));
    let mut tested = Tested::in_view("o", &view);
    tested.claim("a", 1, &user);
    let closing = Holding {
        closing: true,
        ..holding(&user, 1, 0)
    };
    tested.notice("a", Notice::Bound(vec![closing]));
    assert_eq!(tested.places(&user), Some(Vec::new()));
    let claim = tested.claim("b", 2, &user);
    assert_eq!(tested.granted(claim), None);
    tested.stepped_down(false, false);
    assert_eq!(tested.granted(claim), Some((false, false)));
}

#[test]
fn a_login_waits_for_a_gate_that_says_that_it_leaves_when_it_is_out_of_the_view() {
    let views = coming_and_going();
    let user = user_of(&views);
    let mut tested = Tested::in_view("o", &views[0]);
    tested.set_view(&views[1]);
    tested.all_answer(&[]);
    tested.notice("a", Notice::Leaving(vec![holding(&user, 1, 9)]));
    let claim = tested.claim("b", 2, &user);
    assert_eq!(tested.granted(claim), None);
    tested.stepped_down(false, false);
    assert_eq!(tested.granted(claim), Some((false, false)));
}

#[test]
fn a_session_that_logs_in_again_is_ended_again() {
    let view = view(1, &OTHERS);
    let user = user_of(std::slice::from_ref(&view));
    let mut tested = Tested::in_view("o", &view);
    tested.claim("a", 1, &user);
    for (gate, session) in [("b", 2), ("a", 1), ("b", 2), ("a", 1)] {
        // It has another user for a while: the gate does not have it as one of this user.
        let claim = tested.claim(gate, session, &user);
        tested.stepped_down(false, false);
        assert_eq!(tested.granted(claim), Some((false, false)));
    }
}

#[test]
fn a_gate_is_asked_for_what_it_has_until_it_leaves_the_view() {
    let views = coming_and_going();
    let user = user_of(&views);
    let mut tested = Tested::new("o");
    let mut call = tested.without_a(&views[0]);
    for _ in 0..3 {
        tested.reply(call, None);
        tested.wait(SECOND);
        let calls = tested.recovers();
        assert_eq!(calls.len(), 1);
        call = calls[0].0;
    }
    assert_eq!(tested.places(&user), None);
    tested.reply(call, None);
    tested.set_view(&views[1]);
    tested.all_answer(&[]);
    assert_eq!(tested.places(&user), Some(Vec::new()), "all have answered");
    tested.wait(SECOND);
    assert_eq!(tested.calls, []);
    assert!(tested.owner.is_idle());
}

#[test]
fn what_a_gate_says_that_has_left_the_view_leaves_no_entry() {
    let views = coming_and_going();
    let user = user_of(&views);
    let mut tested = Tested::new("o");
    let call = tested.without_a(&views[0]);
    tested.set_view(&views[1]);
    tested.all_answer(&[]);
    tested.answer(call, vec![holding(&user, 1, 9)]);
    assert_eq!(tested.places(&user), Some(Vec::new()));
}

#[test]
fn a_gate_that_is_back_is_asked_for_what_it_has_and_may_claim() {
    let views = coming_and_going();
    let user = user_of(&views);
    let mut tested = Tested::in_view("o", &views[0]);
    tested.claim("a", 1, &user);
    tested.set_view(&views[1]);
    tested.all_answer(&[]);
    assert_eq!(tested.places(&user), Some(Vec::new()));
    tested.set_view(&views[2]);
    tested.all_answer(&[("a", holding(&user, 1, 1))]);
    assert_eq!(tested.places(&user), Some(vec![place("a", 1)]));
    let claim = tested.claim("a", 2, &user);
    tested.stepped_down(true, false);
    assert_eq!(tested.granted(claim), Some((true, false)));
}

#[test]
fn a_claim_ends_no_session_when_its_gate_has_left_the_view() {
    let views = coming_and_going();
    let user = user_of(&views);
    let mut tested = Tested::new("o");
    tested.set_view(&views[0]);
    let claim = tested.claim("a", 1, &user);
    tested.set_view(&views[1]);
    assert_eq!(tested.reply_to(claim), Some(&OwnerReply::Retry));
    tested.all_answer(&[("b", holding(&user, 2, 9))]);
    assert_eq!(tested.step_downs(), []);
    assert_eq!(tested.places(&user), Some(vec![place("b", 2)]));
}

#[test]
fn a_login_waits_five_seconds_for_a_gate_that_does_not_answer() {
    let view = view(1, &OTHERS);
    let user = user_of(std::slice::from_ref(&view));
    let mut tested = Tested::new("o");
    let call = tested.without_a(&view);
    let claim = tested.claim("b", 2, &user);
    tested.wait(4 * SECOND);
    assert_eq!(tested.granted(claim), None);
    tested.wait(2 * SECOND);
    assert_eq!(tested.granted(claim), Some((false, true)), "late");
    // Its session is ended when it is known.
    tested.answer(call, vec![holding(&user, 1, 9)]);
    let ended: Vec<_> = tested.step_downs().into_iter().map(|it| it.1).collect();
    assert_eq!(ended, [place("a", 1)]);
}

#[test]
fn claims_behind_others_that_wait_for_a_silent_gate_are_given_up_after_20_seconds() {
    let view = view(1, &OTHERS);
    let user = user_of(std::slice::from_ref(&view));
    let mut tested = Tested::in_view("o", &view);
    tested.claim("a", 1, &user);
    let claims = [2, 3, 4, 5].map(|session| tested.claim("a", session, &user));
    tested.wait(19 * SECOND);
    for claim in &claims[..3] {
        assert_eq!(tested.granted(*claim), Some((false, true)));
    }
    assert_eq!(tested.reply_to(claims[3]), None);
    tested.wait(2 * SECOND);
    assert_eq!(tested.reply_to(claims[3]), Some(&OwnerReply::Retry));
}

#[test]
fn a_login_that_is_made_again_is_as_late_as_before() {
    let view = view(1, &OTHERS);
    let user = user_of(std::slice::from_ref(&view));
    let mut tested = Tested::in_view("o", &view);
    tested.claim("a", 1, &user);
    tested.notice("c", Notice::Bound(vec![holding(&user, 3, 0)]));
    tested.claim("b", 2, &user);
    let calls = tested.step_downs();
    assert_eq!(calls.len(), 2);
    let answers = [(false, true), (true, false)];
    for ((call, _), (replaced, late)) in calls.into_iter().zip(answers) {
        let claim = tested.claim("b", 2, &user);
        let claimant = replaced.then(|| place("b", 2));
        tested.reply(call, Some(GateReply::SteppedDown { claimant, late }));
        let granted = replaced.then_some((true, true));
        assert_eq!(tested.granted(claim), granted);
    }
}

#[test]
fn what_has_ended_for_a_login_is_late_also_before_that_is_made_again() {
    let views = coming_and_going();
    let user = user_of(&views);
    let mut tested = Tested::new("o");
    tested.set_view(&views[0]);
    for (call, gate) in tested.recovers() {
        // As the owner before had it ended.
        let replaced = Replaced {
            user: user.clone(),
            claimant: place("b", 2),
            late: false,
        };
        let (held, replaced) = match gate == node("a") {
            true => (vec![holding(&user, 1, 9)], vec![replaced]),
            false => (Vec::new(), Vec::new()),
        };
        tested.answer_with(call, held, replaced);
    }
    tested.set_view(&views[1]);
    tested.all_answer(&[]);
    let claim = tested.claim("b", 2, &user);
    assert_eq!(tested.granted(claim), Some((true, true)));
}

#[test]
fn each_login_that_must_replace_none_is_refused_while_a_session_lives() {
    let view = view(1, &OTHERS);
    let user = user_of(std::slice::from_ref(&view));
    let mut tested = Tested::in_view("o", &view);
    tested.policy = Policy::Reject;
    tested.claim("a", 1, &user);
    let claims = [("b", 2), ("c", 3)].map(|(gate, session)| tested.claim(gate, session, &user));
    for claim in claims {
        assert_eq!(tested.reply_to(claim), None);
        tested.answer_for(&place("a", 1), GateReply::Lives);
        assert_eq!(tested.reply_to(claim), Some(&OwnerReply::Refused));
    }
    assert_eq!(tested.step_downs(), []);
    assert!(tested.owner.is_idle());
    assert_eq!(tested.owner.check_counts(), Ok(()));
}

#[test]
fn a_session_that_a_login_was_granted_without_is_ended_also_if_it_was_only_asked_for() {
    let view = view(1, &OTHERS);
    let user = user_of(std::slice::from_ref(&view));
    let mut tested = Tested::in_view("o", &view);
    tested.policy = Policy::Reject;
    tested.claim("a", 1, &user);
    let claim = tested.claim("b", 2, &user);
    assert_eq!(tested.step_downs().len(), 1);
    tested.wait(7 * SECOND);
    assert_eq!(tested.granted(claim), Some((false, true)));
    let (_, gate, request) = tested.calls.pop().unwrap();
    assert_eq!(gate, node("a"));
    let ends = matches!(
        request,
        GateRequest::StepDown {
            ask: false,
            session: 1,
            ..
        }
    );
    assert!(ends, "{request:?}");
}

#[test]
fn a_session_that_a_login_was_granted_without_is_ended_also_while_logins_wait_that_replace_none() {
    let view = view(1, &OTHERS);
    let user = user_of(std::slice::from_ref(&view));
    let mut tested = Tested::in_view("o", &view);
    tested.claim("a", 1, &user);
    tested.policy = Policy::Reject;
    let second = tested.claim("b", 2, &user);
    let asked = tested.step_downs();
    tested.wait(7 * SECOND);
    assert_eq!(tested.granted(second), Some((false, true)));
    let third = tested.claim("c", 3, &user);
    // The gate of the first does not answer; that of the second has yet to.
    for (call, wanted) in tested.step_downs() {
        if wanted == place("a", 1) {
            tested.reply(call, None);
        }
    }
    tested.wait(SECOND);
    assert_eq!(tested.granted(third), None);
    let ended = |(_, _, request): &_| match request {
        GateRequest::StepDown { session, ask, .. } => *session == 1 && !ask,
        GateRequest::Recover { .. } => false,
    };
    assert!(tested.calls.iter().any(ended), "{:?}", tested.calls);
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[test]
fn of_sessions_that_a_gate_does_not_name_it_is_asked_for_those_with_claims() {
    let view = view(1, &OTHERS);
    let user = user_of(std::slice::from_ref(&view));
    let mut tested = Tested::in_view("o", &view);
    tested.claim("a", 1, &user);
    tested.notice("a", Notice::Bound(vec![holding(&user, 3, 0)]));
    let compare = OwnerRequest::Compare(vec![(slot_of(&user), 0)]);
    tested.step(|owner, now| owner.on_call(&node("a"), 0, compare, now));
    tested.all_answer(&[]);
    assert_eq!(tested.places(&user), Some(vec![place("a", 1)]));
    // Only a login that must replace none is refused for it.
    let claim = tested.claim("b", 2, &user);
    let calls = tested.step_downs();
    assert_eq!(calls.len(), 2);
    tested.reply(calls[0].0, Some(GateReply::Lives));
    assert_eq!(tested.granted(claim), None);
    let (claimant, late) = (Some(place("b", 2)), false);
    let ended = GateReply::SteppedDown { claimant, late };
    tested.reply(calls[1].0, Some(ended));
    assert_eq!(tested.granted(claim), Some((true, false)));
}

#[test]
fn what_an_owner_counts_goes_with_its_slots() {
    let views = [view(1, &OTHERS), view(3, &OTHERS)];
    let user = user_of(&views);
    let mut tested = Tested::in_view("o", &views[0]);
    tested.claim("a", 1, &user);
    tested.claim("b", 2, &user);
    assert_eq!(tested.owner.check_counts(), Ok(()));
    // The slots may have had another owner meanwhile.
    tested.set_view(&views[1]);
    assert_eq!(tested.owner.check_counts(), Ok(()));
    tested.all_answer(&[]);
    let claim = tested.claim("b", 2, &user);
    assert_eq!(tested.granted(claim), Some((false, false)));
    tested.notice("b", Notice::Released(vec![holding(&user, 2, 0)]));
    assert_eq!(tested.owner.check_counts(), Ok(()));
}
