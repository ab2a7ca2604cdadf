//! The claims of users: which wait, and when they are granted.

use tokio::time::Instant;

use super::{
    outstanding::StepDown,
    slot::{Claim, Ended, Next},
    state::Owner,
};
use crate::{
    cluster::directory::{
        message::{OwnerReply, Place, Replaced},
        slots::slot_of,
    },
    session::UserId,
};

/// The most calls that wait here, over all slots. More have to try again.
const MAX_WAITING: usize = 64 * 1024;

impl Owner {
    pub(super) fn claim(&mut self, user: UserId, claim: Claim, now: Instant) {
        let at = slot_of(&user);
        let full = self.waiting >= MAX_WAITING;
        // No later view would forget the session of a gate that has left. One that is not in the view
        // yet may be ahead of this node.
        let gate = &claim.place.gate;
        let gone = self.departed.contains(gate) || self.view.replaces(gate);
        let refused = full || gone;
        let Some(slot) = self.slots[usize::from(at)].as_mut().filter(|_| !refused) else {
            return self.reply(claim.caller, OwnerReply::Retry);
        };
        match slot.claim(&user, claim) {
            Ok(None) => self.waiting += 1,
            Ok(Some(before)) => self.reply(before, OwnerReply::Retry),
            Err(claim) => return self.reply(claim.caller, OwnerReply::Retry),
        }
        self.contested.insert((at, user.clone()));
        self.advance(at, &user, now);
    }

    /// A session has ended; with `late` its close callbacks may still run. A claim of it that waits was
    /// made before that, and must end no session of the user. A later one is made again.
    pub(super) fn released(&mut self, user: &UserId, place: &Place, late: bool, now: Instant) {
        let at = slot_of(user);
        self.withdraw(at, user, |claim| claim.place == *place);
        if let Some(slot) = &mut self.slots[usize::from(at)] {
            slot.released(&mut self.gates, user, place, late);
            self.advance(at, user, now);
        }
    }

    /// Notes a session that was ended for a login, which may go on here.
    pub(super) fn note_replaced(&mut self, replaced: &Replaced, now: Instant) {
        let Replaced {
            user,
            claimant,
            late,
        } = replaced;
        if let Some(slot) = &mut self.slots[usize::from(slot_of(user))] {
            let ended = Ended {
                replaced: true,
                late: *late,
            };
            slot.note(user, claimant, ended, now);
        }
    }

    /// Drops claims of a user, and lets them be made again. Returns whether there were some.
    pub(super) fn withdraw(
        &mut self,
        at: u16,
        user: &UserId,
        is_one: impl Fn(&Claim) -> bool,
    ) -> bool {
        let Some(slot) = &mut self.slots[usize::from(at)] else {
            return false;
        };
        let callers = slot.withdraw(user, is_one);
        self.waiting -= callers.len();
        for caller in &callers {
            self.reply(*caller, OwnerReply::Retry);
        }
        !callers.is_empty()
    }

    /// Refuses the first claim of a user if it must not replace the session, which lives.
    pub(super) fn refuse(&mut self, lives: &StepDown) {
        let slot = self.slots[usize::from(slot_of(&lives.user))].as_mut();
        if let Some(claim) = slot.and_then(|slot| slot.refuse(&lives.user, &lives.place)) {
            self.waiting -= 1;
            self.reply(claim.caller, OwnerReply::Refused);
        }
    }

    /// Serves what waited for a slot, if all gates have told what they have.
    pub(super) fn serve(&mut self, at: u16, now: Instant) {
        let Some(slot) = &mut self.slots[usize::from(at)] else {
            return;
        };
        if !slot.is_complete() {
            return;
        }
        let (users, superseded) = (slot.contested(), slot.superseded(&self.gates));
        self.step_down(superseded, None);
        for user in users {
            self.advance(at, &user, now);
        }
    }

    /// Grants the claims of a user that nothing stands against. Tells the sessions that stand
    /// against the next one to end. Returns whether a claim waits.
    pub(super) fn advance(&mut self, at: u16, user: &UserId, now: Instant) -> bool {
        loop {
            let Some(slot) = &mut self.slots[usize::from(at)] else {
                return false;
            };
            match slot.next(&self.gates, user, now) {
                Next::Idle => {
                    self.contested.remove(&(at, user.clone()));
                    return false;
                }
                Next::Wait => return true,
                Next::End(steps, claimant) => {
                    self.step_down(steps, Some(&claimant));
                    return true;
                }
                Next::Grant(claim, ended, unconfirmed) => {
                    let view = self.view.number();
                    let number = slot.grant(&mut self.gates, view, user, &claim.place);
                    self.waiting -= 1;
                    let granted = OwnerReply::Granted {
                        view,
                        claim: number,
                        replaced: ended.replaced,
                        late: ended.late,
                    };
                    self.reply(claim.caller, granted);
                    self.step_down(unconfirmed, None);
                }
            }
        }
    }
}
