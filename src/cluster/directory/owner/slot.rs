//! One slot of an owner: its users, and the claims that wait for them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    entries::{Entries, Gates},
    outstanding::StepDown,
};
use crate::{
    cluster::directory::{
        message::{CallerId, Holding, Place, Policy},
        view::NodeId,
    },
    session::UserId,
};

/// How long a claim may wait here. Its caller waits less.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(20);

/// The most claims of one user that wait.
const MAX_CLAIMS: usize = 16;

/// How long a claim waits for gates to tell what they have. A gate that is dead has left the view
/// before, unless no master runs.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a claim waits for other sessions to end: the close callbacks have five seconds.
const END_TIMEOUT: Duration = Duration::from_secs(6);

/// Claims of a slot in one view, before those of one user may have numbers of the next.
const CLAIMS_PER_VIEW: u64 = 4096;

/// A slot that this node owns.
#[derive(Debug)]
pub(super) struct Slot {
    /// The view in which this node became the owner.
    pub(super) since: u64,
    /// Gates that have yet to tell what they have. Until then nothing is granted.
    pub(super) unanswered: BTreeSet<NodeId>,
    pub(super) entries: Entries,
    /// The number of the last claim that was granted here.
    last_claim: u64,
    /// The claims of users that wait, in the order they came.
    claims: BTreeMap<UserId, VecDeque<Claim>>,
    /// What has ended for claims that may be made again, here or at the owner before.
    noted: Vec<Noted>,
}

/// What has ended for the claim of a session.
#[derive(Debug)]
struct Noted {
    at: Instant,
    user: UserId,
    claimant: Place,
    ended: Ended,
}

/// A claim that waits.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) caller: CallerId,
    pub(super) place: Place,
    pub(super) policy: Policy,
    pub(super) until: Instant,
    /// When it waits for gates, and for sessions, no longer; `None` if it has not begun to.
    pub(super) limits: Limits,
    /// Whether close callbacks of a session that is gone may still run.
    late: bool,
}

/// How long the first claim of a user waits. An owner that gets no answer grants it all the same: no
/// login fails because of a session that no gate confirms.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    collect: Option<Instant>,
    end: Option<Instant>,
}

/// What to do about the claims of one user.
pub(super) enum Next {
    /// No claim waits.
    Idle,
    /// A claim waits for gates.
    Wait,
    /// Nothing stands against this claim, or nothing that answers: the sessions in the third place
    /// have yet to end. It waits no more.
    Grant(Claim, Ended, Vec<StepDown>),
    /// These sessions stand against the claim of the one in the second place.
    End(Vec<StepDown>, Place),
}

/// What has ended for a claim.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Whether a session was ended for it.
    pub(super) replaced: bool,
    /// Whether close callbacks of a session that is gone may still run.
    pub(super) late: bool,
}

impl Ended {
    fn add(&mut self, other: Self) {
        self.replaced |= other.replaced;
        self.late |= other.late;
    }
}

impl Claim {
    pub(super) fn new(caller: CallerId, place: Place, policy: Policy, now: Instant) -> Self {
        Self {
            caller,
            place,
            policy,
            until: now + CLAIM_TIMEOUT,
            limits: Limits::default(),
            late: false,
        }
    }
}

impl Slot {
    /// Creates a slot that asks these gates what they have.
    pub(super) fn new(since: u64, unanswered: impl Iterator<Item = NodeId>) -> Self {
        Self {
            since,
            unanswered: unanswered.collect(),
            entries: Entries::default(),
            last_claim: 0,
            claims: BTreeMap::new(),
            noted: Vec::new(),
        }
    }

    /// Whether all gates have told what they have.
    pub(super) fn is_complete(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Adds a claim. One of the same session is in its place already if it was made again: returns
    /// who waited for that one.
    ///
    /// # Errors
    /// Gives the claim back if too many of the user wait.
    pub(super) fn claim(&mut self, user: &UserId, claim: Claim) -> Result<Option<CallerId>, Claim> {
        let claims = self.claims.entry(user.clone()).or_default();
        if let Some(same) = claims.iter_mut().find(|same| same.place == claim.place) {
            let Claim { limits, late, .. } = *same;
            let again = Claim {
                limits,
                late,
                ..claim
            };
            let before = std::mem::replace(same, again);
            return Ok(Some(before.caller));
        }
        if claims.len() >= MAX_CLAIMS {
            return Err(claim);
        }
        claims.push_back(claim);
        Ok(None)
    }

    /// Drops claims of a user. Returns who waited for them.
    pub(super) fn withdraw(
        &mut self,
        user: &UserId,
        is_one: impl Fn(&Claim) -> bool,
    ) -> Vec<CallerId> {
        let Some(claims) = self.claims.get_mut(user) else {
            return Vec::new();
        };
        let dropped = claims.iter().filter(|claim| is_one(claim));
        let callers = dropped.map(|claim| claim.caller).collect();
        claims.retain(|claim| !is_one(claim));
        callers
    }

    /// Takes the first claim of a user if it must not replace the session that lives.
    pub(super) fn refuse(&mut self, user: &UserId, lives: &Place) -> Option<Claim> {
        let claims = self.claims.get_mut(user)?;
        let rejects = |claim: &&Claim| claim.policy == Policy::Reject && claim.place != *lives;
        claims.front().filter(rejects)?;
        claims.pop_front()
    }

    /// Returns the users with claims that wait.
    pub(super) fn contested(&self) -> Vec<UserId> {
        self.claims.keys().cloned().collect()
    }

    /// Returns all callers that wait.
    pub(super) fn callers(&self) -> Vec<CallerId> {
        let claims = self.claims.values().flatten();
        claims.map(|claim| claim.caller).collect()
    }

    /// Notes that a session has ended. `late` is whether its close callbacks may still run.
    pub(super) fn released(&mut self, gates: &mut Gates, user: &UserId, place: &Place, late: bool) {
        if late {
            self.note_late(user);
        }
        self.entries.remove(gates, user, place);
        self.noted.retain(|noted| noted.claimant != *place);
    }

    /// Forgets the sessions at some gates, given by number. Close callbacks may still run there.
    pub(super) fn forget(&mut self, gates: &mut Gates, which: &[bool]) {
        for user in self.entries.forget(gates, which) {
            self.note_late(&user);
        }
    }

    /// Close callbacks of a session that is gone may still run: all logins of its user that go on are
    /// late.
    fn note_late(&mut self, user: &UserId) {
        for claim in self.claims.get_mut(user).into_iter().flatten() {
            claim.late = true;
        }
        for noted in self.noted.iter_mut().filter(|noted| noted.user == *user) {
            noted.ended.late = true;
        }
    }

    /// Whether the first claim of a user has waited for long enough.
    pub(super) fn is_overdue(&self, user: &UserId, now: Instant) -> bool {
        let first = self.claims.get(user).and_then(VecDeque::front);
        first.is_some_and(|claim| {
            let Limits { collect, end } = claim.limits;
            let limit = if self.is_complete() { end } else { collect };
            limit.is_some_and(|limit| limit <= now)
        })
    }

    /// Returns what to do about the claims of a user.
    pub(super) fn next(&mut self, gates: &Gates, user: &UserId, now: Instant) -> Next {
        let complete = self.is_complete();
        let Some(claims) = self.claims.get_mut(user) else {
            return Next::Idle;
        };
        let Some(first) = claims.front_mut() else {
            self.claims.remove(user);
            return Next::Idle;
        };
        let limits = &mut first.limits;
        if !complete && now < *limits.collect.get_or_insert(now + COLLECT_TIMEOUT) {
            return Next::Wait;
        }
        let others = self.entries.of(user).into_iter().map(|entry| StepDown {
            user: user.clone(),
            place: gates.place(&entry),
            ask: first.policy == Policy::Reject,
        });
        let mut others: Vec<_> = others.filter(|step| step.place != first.place).collect();
        if !others.is_empty() && now < *limits.end.get_or_insert(now + END_TIMEOUT) {
            return Next::End(others, first.place.clone());
        }
        let late = first.late || !complete || !others.is_empty();
        others.iter_mut().for_each(|step| step.ask = false);
        let Some(claim) = claims.pop_front() else {
            return Next::Idle;
        };
        let ended = Ended {
            replaced: false,
            late,
        };
        // The reply may be lost, and the claim made again.
        let ended = self.note(user, &claim.place, ended, now);
        Next::Grant(claim, ended, others)
    }

    /// Makes a session the only one of its user, and returns the number of its claim.
    ///
    /// It is larger than that of every claim of the user that is known, and than those of earlier
    /// views, which may not be known. The first thousands of a view are larger than all before them in
    /// the slot too: a session that has ended may be heard of once more.
    pub(super) fn grant(
        &mut self,
        gates: &mut Gates,
        view: u64,
        user: &UserId,
        place: &Place,
    ) -> u64 {
        let known = self.entries.of(user).into_iter().map(|entry| entry.claim);
        let earlier = view.saturating_mul(CLAIMS_PER_VIEW);
        let last_of_view = earlier.saturating_add(CLAIMS_PER_VIEW - 2);
        let before = self.last_claim.clamp(earlier, last_of_view);
        let holding = Holding {
            user: user.clone(),
            session: place.session,
            claim: known.fold(before, u64::max).saturating_add(1),
            closing: false,
        };
        self.last_claim = holding.claim;
        self.entries.insert(gates, &place.gate, &holding);
        holding.claim
    }

    /// Takes what a gate has here. Returns the sessions that it did not name and may have got after
    /// it answered, to be asked for.
    pub(super) fn reconcile(
        &mut self,
        gates: &mut Gates,
        gate: &NodeId,
        told: &[&Holding],
    ) -> Vec<StepDown> {
        self.unanswered.remove(gate);
        let mut ask = Vec::new();
        let known: Vec<_> = self.entries.at_gate(gates, gate).collect();
        // A slot may have many, and this runs on a thread that serves clients.
        let named: BTreeSet<_> = match known.is_empty() {
            true => BTreeSet::new(),
            false => told.iter().map(|told| (told.session, &told.user)).collect(),
        };
        for (user, entry) in known {
            if named.contains(&(entry.session, &user)) {
                continue;
            }
            let place = gates.place(&entry);
            if entry.claim == 0 {
                self.entries.remove(gates, &user, &place);
            } else {
                let ask_it = StepDown {
                    user,
                    place,
                    ask: true,
                };
                ask.push(ask_it);
            }
        }
        for holding in told {
            self.entries.insert(gates, gate, holding);
        }
        ask
    }

    /// Notes what has ended for the claim of a session. Returns all that has.
    pub(super) fn note(
        &mut self,
        user: &UserId,
        claimant: &Place,
        mut ended: Ended,
        now: Instant,
    ) -> Ended {
        self.noted.retain(|noted| noted.at + CLAIM_TIMEOUT > now);
        let of_claim = |noted: &mut Noted| noted.user == *user && noted.claimant == *claimant;
        for before in self.noted.extract_if(.., of_claim) {
            ended.add(before.ended);
        }
        if ended != Ended::default() {
            self.noted.push(Noted {
                at: now,
                user: user.clone(),
                claimant: claimant.clone(),
                ended,
            });
        }
        ended
    }

    /// Whether a session still has to end, or with `ask` may be one that no gate has.
    pub(super) fn has_to_ask(&self, gates: &Gates, step: &StepDown) -> bool {
        if !step.ask {
            return self.superseded_of(gates, &step.user).contains(step);
        }
        let known = self.entries.of(&step.user);
        known.iter().any(|entry| gates.place(entry) == step.place)
    }

    /// Returns the sessions whose claims are older than another one of the same user.
    pub(super) fn superseded(&self, gates: &Gates) -> Vec<StepDown> {
        let users = self.entries.with_several().into_iter();
        users
            .flat_map(|user| self.superseded_of(gates, &user))
            .collect()
    }

    /// Returns the sessions of a user whose claims are older than another one.
    ///
    /// Owners without a numbered view may have granted two claims with one number. Then one of the two
    /// counts as the older one: that of a session that has ended, else that of the lower id.
    pub(super) fn superseded_of(&self, gates: &Gates, user: &UserId) -> Vec<StepDown> {
        let mut entries = self.entries.of(user);
        entries.retain(|entry| entry.claim != 0);
        entries.sort_by_key(|entry| (entry.claim, !entry.closing, entry.session));
        let last = entries.pop().map(|last| (last.claim, last.session));
        // One that moves is at two gates for a moment, with its id and its claim.
        entries.retain(|entry| last != Some((entry.claim, entry.session)));
        let steps = entries.into_iter().map(|entry| StepDown {
            user: user.clone(),
            place: gates.place(&entry),
            ask: false,
        });
        steps.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_claims_with_one_number_one_is_superseded_but_not_of_a_session_that_moves() {
        let node = |address: &str| NodeId {
            address: address.into(),
            incarnation: 1,
        };
        let user = UserId::from(7);
        for (sessions, has_ended, superseded) in [
            ([5, 4], 0, Some(4)),
            ([4, 5], 0, Some(4)),
            ([4, 5], 5, Some(5)),
            ([4, 4], 0, None),
        ] {
            let (mut gates, mut slot) = (Gates::default(), Slot::new(1, [].into_iter()));
            for (gate, session) in ["a:1", "b:1"].into_iter().zip(sessions) {
                let holding = Holding {
                    user: user.clone(),
                    session,
                    claim: 1,
                    closing: session == has_ended,
                };
                slot.reconcile(&mut gates, &node(gate), &[&holding]);
            }
            let steps = slot.superseded_of(&gates, &user);
            let found: Vec<_> = steps.iter().map(|step| step.place.session).collect();
            assert_eq!(found, Vec::from_iter(superseded), "{sessions:?}");
        }
    }

    #[test]
    fn a_claim_is_later_than_that_of_a_session_that_has_ended() {
        let gate = NodeId {
            address: "a:1".into(),
            incarnation: 1,
        };
        let (mut gates, mut slot) = (Gates::default(), Slot::new(1, [].into_iter()));
        let user = UserId::from(7);
        let mut last = 0;
        for (session, view) in (1..=10_000).map(|session| (session, 3 + session as u64 / 6_000)) {
            let gate = gate.clone();
            let place = Place { gate, session };
            let claim = slot.grant(&mut gates, view, &user, &place);
            slot.released(&mut gates, &user, &place, false);
            let first = view * CLAIMS_PER_VIEW;
            assert!((first + 1..first + CLAIMS_PER_VIEW).contains(&claim));
            assert!(
                claim > last || session > 4_000 && claim == last,
                "{session}"
            );
            last = claim;
        }
    }
}
