//! What a node does for the users whose slots it owns. No I/O.

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::{effect::Effect, state::Owner};
use self::{outstanding::Outstanding, slot::Claim};
use super::{
    message::{CallId, CallerId, GateReply, Located, Notice, OwnerRequest, Place, Replaced},
    slots::slot_of,
    view::NodeId,
};
use crate::session::UserId;

mod claims;
mod departed;
mod effect;
mod entries;
mod entry;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), allow(dead_code, reason = "the simulation uses more of it"))]
mod inspect;
mod leaving;
mod outstanding;
mod packed_users;
mod questions;
mod recovery;
mod slot;
mod state;

impl Owner {
    /// Returns where the open sessions of users are; `None` for those of other owners, and of slots that
    /// wait for gates.
    pub(crate) fn locate(&self, users: &[UserId]) -> Vec<Option<Located>> {
        let locate = |user| {
            let slot = self.slots[usize::from(slot_of(user))].as_ref()?;
            let mut entries = slot.is_complete().then(|| slot.entries.of(user))?;
            entries.retain(|entry| !entry.closing);
            Some(Located {
                alone: matches!(&entries[..], [only] if only.claim != 0),
                places: entries.iter().map(|it| self.gates.place(it)).collect(),
            })
        };
        users.iter().map(locate).collect()
    }

    /// Whether nothing is to be done until something else happens.
    pub(crate) fn is_idle(&self) -> bool {
        self.contested.is_empty() && self.leaving.is_empty() && self.next_retry().is_none()
    }

    /// When a call that has failed is to be repeated: [`tick`](Self::tick) then, if that is soon.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.calls.next_retry()
    }

    /// Takes a call of a gate. It is answered with [`Effect::Reply`].
    pub(crate) fn on_call(
        &mut self,
        from: &NodeId,
        caller: CallerId,
        request: OwnerRequest,
        now: Instant,
    ) {
        match request {
            OwnerRequest::Claim {
                user,
                session,
                policy,
            } => {
                let gate = from.clone();
                let claim = Claim::new(caller, Place { gate, session }, policy, now);
                self.claim(user, claim, now);
            }
            OwnerRequest::Compare(sums) => self.compare(from, caller, sums),
        }
    }

    /// Takes a message of a gate.
    pub(crate) fn on_notice(&mut self, from: &NodeId, notice: Notice, now: Instant) {
        match notice {
            Notice::Bound(holdings) => holdings.iter().for_each(|bound| self.add(from, bound)),
            Notice::Released(holdings) => {
                for holding in holdings {
                    let (gate, session) = (from.clone(), holding.session);
                    let place = Place { gate, session };
                    self.leaving.released(from, session);
                    self.released(&holding.user, &place, false, now);
                }
            }
            Notice::Leaving(holdings) => {
                self.leaving.add(from, holdings, now);
                self.add_leaving();
            }
        }
    }

    /// Takes a gate's reply; `None` if the call failed.
    pub(crate) fn on_reply(&mut self, call: CallId, reply: Option<GateReply>, now: Instant) {
        let Some(outstanding) = self.calls.take(call) else {
            return;
        };
        match (outstanding, reply) {
            (
                Outstanding::Recover {
                    gate, slots, view, ..
                },
                Some(GateReply::Holdings { held, replaced }),
            ) => {
                self.recovered(&gate, (&slots, view), &held, replaced, now);
            }
            (
                Outstanding::StepDown { step, .. },
                Some(GateReply::SteppedDown { claimant, late }),
            ) => {
                self.calls.finish(&step);
                if let Some(claimant) = claimant {
                    let user = step.user.clone();
                    let replaced = Replaced {
                        user,
                        claimant,
                        late,
                    };
                    self.note_replaced(&replaced, now);
                }
                self.released(&step.user, &step.place, late, now);
            }
            (Outstanding::StepDown { step, .. }, Some(GateReply::Lives)) => {
                self.calls.finish(&step);
                self.refuse(&step);
                self.advance(slot_of(&step.user), &step.user, now);
            }
            (outstanding, _) => self.calls.failed(outstanding, now),
        }
    }

    /// Repeats failed calls, and ends what has waited for too long. Call it every 100 ms unless it
    /// [is idle](Self::is_idle).
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(outstanding) = self.calls.next_due(now) {
            self.retry(outstanding, now);
        }
        if self.leaving.is_overdue(now) {
            self.forget_departed(now);
        }
        for (at, user) in self.contested.clone() {
            let slot = self.slots[usize::from(at)].as_ref();
            let overdue = slot.is_some_and(|slot| slot.is_overdue(&user, now));
            if self.withdraw(at, &user, |claim| claim.until <= now) || overdue {
                self.advance(at, &user, now);
            }
        }
    }

    fn retry(&mut self, outstanding: Outstanding, now: Instant) {
        match outstanding {
            Outstanding::Recover {
                gate,
                mut slots,
                view,
                tries,
                ..
            } => {
                // What came back to this node since was asked for anew.
                let since = |at: &u16| self.slots[usize::from(*at)].as_ref().map(|slot| slot.since);
                slots.retain(|at| since(at).is_some_and(|since| since <= view));
                if self.view.contains(&gate) && !slots.is_empty() {
                    self.call(Outstanding::Recover {
                        gate,
                        slots,
                        view: self.view.number(),
                        pause: Duration::ZERO,
                        tries: tries + 1,
                    });
                } else {
                    self.withdrawn(&gate);
                }
            }
            Outstanding::StepDown { step, claimant, .. } => {
                let at = slot_of(&step.user);
                // A claim that waits asks by itself. One that must replace none ends none.
                let asks = self.advance(at, &step.user, now) && step.ask;
                let slot = self.slots[usize::from(at)].as_ref();
                if !asks && slot.is_some_and(|slot| slot.has_to_ask(&self.gates, &step)) {
                    self.step_down(vec![step], claimant.as_ref());
                }
            }
        }
    }
}
