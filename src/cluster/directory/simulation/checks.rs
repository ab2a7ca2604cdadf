//! What must hold after each event, and in the end.

use std::{collections::BTreeSet, mem};

use super::world::World;
use crate::{
    cluster::directory::{message::Place, owner::Owner},
    session::UserId,
};

impl World {
    /// Checks what must hold, if something has changed since the last time. Time alone only ends
    /// leases, and one that has ended is noted before it begins anew.
    pub(super) fn check(&mut self) {
        if !mem::take(&mut self.changed) {
            return;
        }
        self.confirm();
        let running = self.nodes.iter().flatten().filter(|it| !it.leaving);
        let confirmed = running.flat_map(|process| {
            let granted = process.gate.granted();
            let confirmed = granted.filter(|(_, session)| process.confirmed.contains(session));
            confirmed.map(|(user, session)| (user, (process.process(), session)))
        });
        self.oracle.check(confirmed);
    }

    /// Finds the sessions whose claims are confirmed, or no longer.
    ///
    /// A claim is confirmed from its grant until the lease of its gate runs out, and again when an
    /// owner that has asked the gate has no other session of the user; not if its owner has granted
    /// the user to another session, because the gate did not answer.
    fn confirm(&mut self) {
        let now = self.network.now;
        let mut superseded = Vec::new();
        for process in self.nodes.iter().flatten() {
            process.owner.superseded(&self.users, &mut superseded);
        }
        let mut again = Vec::new();
        for (node, process) in self.nodes.iter_mut().enumerate() {
            let Some(process) = process else { continue };
            if !process.has_lease(now) {
                process.confirmed.clear();
                continue;
            }
            for place in superseded.iter().filter(|place| place.gate == process.id) {
                process.confirmed.remove(&place.session);
            }
            let granted = process.gate.granted();
            let unconfirmed = granted.filter(|(_, session)| !process.confirmed.contains(session));
            again.extend(unconfirmed.map(|(user, session)| (node, user.clone(), session)));
        }
        again.retain(|(node, user, session)| self.is_found(*node, user, *session));
        for (node, user, session) in again {
            if let Some(process) = &mut self.nodes[node] {
                process.confirmed.insert(session);
                self.oracle.confirmed(&user, (process.process(), session));
            }
        }
    }

    /// Whether an owner has asked the gate for a session, and knows no other one of its user.
    fn is_found(&self, node: usize, user: &UserId, session: i64) -> bool {
        let Some(process) = &self.nodes[node] else {
            return false;
        };
        let place = Place {
            gate: process.id.clone(),
            session,
        };
        let earliest = process.gate.earliest(user);
        let finds = |owner: &Owner| {
            owner.view().number() >= earliest
                && owner.view().contains(&place.gate)
                && matches!(&*owner.locate(std::slice::from_ref(user)), [Some(found)] if found.places == [place.clone()])
        };
        let mut owners = self.nodes.iter().flatten();
        owners.any(|process| finds(&process.owner))
    }

    /// Compares what the owners know with what they count, and with what the gates have.
    pub(super) fn diverged(&self) -> Option<String> {
        let owners = self.nodes.iter().flatten().map(|process| &process.owner);
        let miscounted = owners.map(Owner::check_counts).find_map(Result::err);
        if miscounted.is_some() {
            return miscounted;
        }
        if !self.shape.settles {
            return None;
        }
        let (mut known, mut held) = (BTreeSet::new(), BTreeSet::new());
        for process in self.nodes.iter().flatten() {
            for (user, place) in process.owner.all() {
                known.insert((user, place.gate, place.session));
            }
            for holding in process.gate.all() {
                held.insert((holding.user, process.id.clone(), holding.session));
            }
        }
        let (missing, stale): (Vec<_>, Vec<_>) = (
            held.difference(&known).collect(),
            known.difference(&held).collect(),
        );
        if missing.len() + stale.len() > 0 {
            return Some(format!(
                "owners do not know {missing:?}, and have {stale:?} in excess"
            ));
        }
        let mut claimed = BTreeSet::new();
        let granted = self.nodes.iter().flatten();
        let mut granted = granted.flat_map(|process| process.gate.granted());
        let twice = granted.find(|(user, _)| !claimed.insert(*user));
        twice.map(|(user, session)| format!("user {user} has {session} and another session"))
    }
}
