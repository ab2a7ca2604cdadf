//! What the simulation looks at.

use std::collections::BTreeSet;

use super::Owner;
use crate::{
    cluster::directory::{
        message::{CallId, Place},
        slots::slot_of,
        view::NodeId,
    },
    session::UserId,
};

impl Owner {
    /// Adds the sessions of users, given with their slots, with claims older than another one.
    pub(crate) fn superseded(&self, users: &[(UserId, u16)], superseded: &mut Vec<Place>) {
        for (user, slot) in users {
            if let Some(slot) = &self.slots[usize::from(*slot)]
                && slot.entries.has_several()
            {
                let steps = slot.superseded_of(&self.gates, user);
                superseded.extend(steps.into_iter().map(|step| step.place));
            }
        }
    }

    /// Returns the first call that has no reply yet.
    pub(crate) fn first_call(&self) -> Option<CallId> {
        self.calls.first()
    }

    /// Returns the gates that have yet to tell what they have of a user.
    pub(crate) fn unanswered(&self, user: &UserId) -> Vec<NodeId> {
        let slot = self.slots[usize::from(slot_of(user))].as_ref();
        let unanswered = slot.into_iter().flat_map(|slot| &slot.unanswered);
        unanswered.cloned().collect()
    }

    /// Returns all sessions that are known, with their users.
    pub(crate) fn all(&self) -> Vec<(UserId, Place)> {
        let owned = self.slots.iter().flatten();
        owned
            .flat_map(|slot| slot.entries.all(&self.gates))
            .collect()
    }

    /// Checks that all is counted that is there, and nothing else.
    ///
    /// # Errors
    /// What is not.
    pub(crate) fn check_counts(&self) -> Result<(), String> {
        let slots = (0..).zip(&self.slots);
        let owned = slots.filter_map(|(at, slot)| Some((at, slot.as_ref()?)));
        let owned: Vec<_> = owned.collect();
        let waiting: usize = owned.iter().map(|(_, slot)| slot.callers().len()).sum();
        let contested: BTreeSet<(u16, UserId)> = owned
            .iter()
            .flat_map(|(at, slot)| slot.contested().into_iter().map(|user| (*at, user)))
            .collect();
        if (waiting, &contested) != (self.waiting, &self.contested) {
            return Err(format!(
                "{waiting} claims of {contested:?} wait, not {} of {:?}",
                self.waiting, self.contested
            ));
        }
        let (sessions, counted) = (self.all().len(), self.gates.sessions());
        if sessions != counted {
            return Err(format!("gates have {sessions} sessions, not {counted}"));
        }
        match self.calls.stepping_without_call() {
            None => Ok(()),
            Some(step) => Err(format!("no call is about {step:?}")),
        }
    }
}
