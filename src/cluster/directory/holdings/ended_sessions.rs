//! Sessions that were ended for logins, for as long as these may go on.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::record::LOGIN_TIMEOUT;
use crate::{
    cluster::directory::{
        message::{GateReply, Replaced},
        slots::slot_of,
    },
    session::UserId,
};

/// The sessions of a gate that owners have had ended, with the claim each made way for.
///
/// The owner may change, or its call fail, before it has the reply. The next one asks again, and the
/// session is gone by then.
#[derive(Debug, Default)]
pub(super) struct EndedSessions {
    by_session: BTreeMap<i64, Replaced>,
    /// When each was ended, oldest first.
    order: VecDeque<(Instant, i64)>,
}

impl EndedSessions {
    pub(super) fn add(&mut self, session: i64, replaced: Replaced, now: Instant) {
        self.expire(now);
        self.by_session.insert(session, replaced);
        self.order.push_back((now, session));
    }

    /// Returns the reply to an owner that wants a session to end which the gate does not have.
    pub(super) fn reply(&self, session: i64, user: &UserId) -> GateReply {
        let ended = self.by_session.get(&session);
        let ended = ended.filter(|replaced| replaced.user == *user);
        GateReply::SteppedDown {
            claimant: ended.map(|replaced| replaced.claimant.clone()),
            late: ended.is_some_and(|replaced| replaced.late),
        }
    }

    /// Returns what was ended in some slots.
    pub(super) fn within(&mut self, now: Instant, wanted: impl Fn(u16) -> bool) -> Vec<Replaced> {
        self.expire(now);
        let ended = self.by_session.values();
        ended
            .filter(|it| wanted(slot_of(&it.user)))
            .cloned()
            .collect()
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, session)) = self.order.front()
            && *at + LOGIN_TIMEOUT <= now
        {
            self.by_session.remove(session);
            self.order.pop_front();
        }
    }
}
