//! One slot of an owner: its users, and the claims that wait for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::time::Instant;

use super::{
    entries::{Entries, Entry, Gates},
    outstanding::StepDown,
};
use crate::{
    cluster::directory::{
        message::{CallerId, Holding, Place, Policy},
        view::NodeId,
    },
    session::UserId,
};

/// The most claims of one user that wait.
const MAX_CLAIMS: usize = 16;

/// A slot that this node owns.
#[derive(Debug)]
pub(super) struct Slot {
    /// The view in which this node became the owner.
    pub(super) since: u64,
    /// Gates that have yet to tell what they have. Until then nothing is granted.
    pub(super) unanswered: BTreeSet<NodeId>,
    pub(super) entries: Entries,
    contests: BTreeMap<UserId, Contest>,
    locates: Vec<(CallerId, UserId)>,
}

/// The claims of one user that wait, in the order they came.
#[derive(Debug, Default)]
struct Contest {
    claims: VecDeque<Claim>,
    /// Whether a session has ended for the first claim.
    replaced: bool,
    /// Whether its close callbacks may still run.
    late: bool,
}

/// A claim that waits.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) caller: CallerId,
    pub(super) place: Place,
    pub(super) policy: Policy,
    pub(super) until: Instant,
}

/// What to do about the claims of one user.
pub(super) enum Next {
    /// No claim waits.
    Idle,
    /// A claim waits for gates.
    Wait,
    /// Nothing stands against this claim. It waits no more.
    Grant(Claim, Replaced),
    /// These sessions stand against a claim that waits.
    End(Vec<StepDown>),
}

/// What has ended for a claim.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Replaced {
    pub(super) replaced: bool,
    pub(super) late: bool,
}

impl Slot {
    /// Creates a slot that asks these gates what they have.
    pub(super) fn new(since: u64, unanswered: impl Iterator<Item = NodeId>) -> Self {
        Self {
            since,
            unanswered: unanswered.collect(),
            entries: Entries::default(),
            contests: BTreeMap::new(),
            locates: Vec::new(),
        }
    }

    /// Whether all gates have told what they have.
    pub(super) fn is_complete(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Returns where the sessions of a user are.
    pub(super) fn locate(&self, gates: &Gates, user: &UserId) -> Vec<Place> {
        let entries = self.entries.of(user);
        entries.iter().map(|entry| gates.place(entry)).collect()
    }

    /// Keeps a question until the slot is complete.
    pub(super) fn locate_later(&mut self, caller: CallerId, user: UserId) {
        self.locates.push((caller, user));
    }

    /// Takes the questions that have waited.
    pub(super) fn take_locates(&mut self) -> Vec<(CallerId, UserId)> {
        std::mem::take(&mut self.locates)
    }

    /// Adds a claim. One of the same session is in its place already: it was made again. Returns how
    /// many more wait.
    ///
    /// # Errors
    /// Gives the claim back if too many of the user wait.
    pub(super) fn claim(&mut self, user: &UserId, claim: Claim) -> Result<usize, Claim> {
        let claims = &mut self.contests.entry(user.clone()).or_default().claims;
        if let Some(same) = claims.iter_mut().find(|same| same.place == claim.place) {
            *same = claim;
            return Ok(0);
        }
        if claims.len() >= MAX_CLAIMS {
            return Err(claim);
        }
        claims.push_back(claim);
        Ok(1)
    }

    /// Drops claims of a user. Returns how many.
    pub(super) fn withdraw(&mut self, user: &UserId, is_one: impl Fn(&Claim) -> bool) -> usize {
        let Some(contest) = self.contests.get_mut(user) else {
            return 0;
        };
        let before = contest.claims.len();
        contest.claims.retain(|claim| !is_one(claim));
        before - contest.claims.len()
    }

    /// Takes the first claim of a user if it must not replace others.
    pub(super) fn refuse(&mut self, user: &UserId) -> Option<Claim> {
        let claims = &mut self.contests.get_mut(user)?.claims;
        let rejects = |claim: &&Claim| claim.policy == Policy::Reject;
        claims.front().filter(rejects)?;
        claims.pop_front()
    }

    /// Returns the users with claims that wait.
    pub(super) fn contested(&self) -> Vec<UserId> {
        self.contests.keys().cloned().collect()
    }

    /// Returns all callers that wait.
    pub(super) fn callers(&self) -> Vec<CallerId> {
        let claims = self.contests.values().flat_map(|contest| &contest.claims);
        let locates = self.locates.iter().map(|(caller, _)| *caller);
        locates.chain(claims.map(|claim| claim.caller)).collect()
    }

    /// Notes that a session has ended.
    pub(super) fn released(&mut self, gates: &mut Gates, user: &UserId, place: &Place, late: bool) {
        let known = self.entries.of(user);
        if let Some(contest) = self.contests.get_mut(user)
            && known.iter().any(|entry| gates.place(entry) == *place)
        {
            contest.replaced = true;
            contest.late |= late;
        }
        self.entries.remove(gates, user, place);
    }

    /// Forgets the sessions at some gates, given by number. Close callbacks may still run there.
    pub(super) fn forget(&mut self, gates: &mut Gates, which: &[bool]) {
        for user in self.entries.forget(gates, which) {
            if let Some(contest) = self.contests.get_mut(&user) {
                (contest.replaced, contest.late) = (true, true);
            }
        }
    }

    /// Returns what to do about the claims of a user.
    pub(super) fn next(&mut self, gates: &Gates, user: &UserId) -> Next {
        let complete = self.is_complete();
        let Some(contest) = self.contests.get_mut(user) else {
            return Next::Idle;
        };
        let Some(first) = contest.claims.front() else {
            self.contests.remove(user);
            return Next::Idle;
        };
        if !complete {
            return Next::Wait;
        }
        let others = self.entries.of(user).into_iter().map(|entry| StepDown {
            user: user.clone(),
            place: gates.place(&entry),
            ask: first.policy == Policy::Reject,
        });
        let others: Vec<_> = others.filter(|step| step.place != first.place).collect();
        if !others.is_empty() {
            return Next::End(others);
        }
        let replaced = Replaced {
            replaced: contest.replaced,
            late: contest.late,
        };
        match contest.claims.pop_front() {
            Some(claim) => Next::Grant(claim, replaced),
            None => Next::Idle,
        }
    }

    /// Makes a session the only one of its user.
    pub(super) fn grant(&mut self, gates: &mut Gates, gate: &NodeId, holding: &Holding) {
        self.entries.insert(gates, gate, holding);
        if let Some(contest) = self.contests.get_mut(&holding.user) {
            (contest.replaced, contest.late) = (false, false);
        }
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
        for (user, entry) in self.entries.at_gate(gates, gate) {
            if told
                .iter()
                .any(|told| told.user == user && told.session == entry.session)
            {
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

    /// Returns the sessions whose claims are older than another one of the same user.
    pub(super) fn superseded(&self, gates: &Gates) -> Vec<StepDown> {
        let claims_of = |user: UserId| {
            let claimed = |entry: &Entry| entry.claim != 0;
            let mut entries: Vec<_> = self.entries.of(&user).into_iter().filter(claimed).collect();
            entries.sort_by_key(|entry| entry.claim);
            entries.pop();
            let steps = entries.into_iter().map(move |entry| StepDown {
                user: user.clone(),
                place: gates.place(&entry),
                ask: false,
            });
            steps.collect::<Vec<_>>()
        };
        self.entries
            .with_several()
            .into_iter()
            .flat_map(claims_of)
            .collect()
    }
}
