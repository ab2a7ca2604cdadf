//! Members whose sessions move to other gates. No I/O.
//!
//! ```text
//! next gate:    expect     publications wait for the session, behind a position of the owner
//! former gate:  locate     its own position is not before that one
//!               hold       what the session has ends at a position; publications wait here too
//! next gate:    arrive     the session is a member, behind that position
//! former gate:  close, or release if the next gate does not take it
//! ```
//!
//! So the session gets each publication once and in order, whichever gate goes on with it.

use std::{hash::Hash, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    gate::{Gate, GateEffect, Hold, Subject, Waiting, not_expected, too_many},
    message::Name,
};
use crate::{
    channel::Position,
    error::{Error, Result, code},
};

/// How long a session is expected that does not come.
const EXPECTED: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 20 });

impl<M: Clone + Eq + Hash, T> Gate<M, T> {
    /// The channels of a member, sorted.
    pub(super) fn channels_of(&self, member: &M) -> Vec<Name> {
        let mut channels = self.by_member.get(member).cloned().unwrap_or_default();
        channels.sort();
        channels
    }

    /// Whether a member is about to move.
    pub(super) fn is_held(&self, member: &M) -> bool {
        let mut holds = self.holds.values();
        holds.any(|hold| hold.member.as_ref() == Some(member))
    }

    /// A session is to come from another gate: publications of a channel wait for it. Ends with
    /// [`GateEffect::Joined`].
    pub(super) fn expect(
        &mut self,
        channel: &Name,
        session: i64,
        call: T,
        now: Instant,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        let until = Some(now + EXPECTED);
        let hold = self.holds.entry(session);
        let hold = hold.or_insert_with(|| Hold::new(None, until));
        let refused = if hold.member.is_some() {
            Some(conflict("the session is about to leave"))
        } else if !hold.has_room(channel, self.max_per_member) {
            Some(too_many())
        } else {
            None
        };
        if let Some(error) = refused {
            let result = Err(error);
            return effects.push(GateEffect::Joined { call, result });
        }
        hold.until = until;
        match self.channels.get_mut(channel) {
            Some(joined) if joined.is_entered() => {
                joined.holds.insert(session);
                hold.add(channel, joined.seen);
                let result = Ok((joined.seen, false));
                effects.push(GateEffect::Joined { call, result });
            }
            _ => {
                let subject = Subject::Expected(session);
                self.ask_owner(channel, subject, None, Some(call), now, effects);
            }
        }
    }

    /// Asks the owner of a channel for its position. With the answer, which is
    /// [`GateEffect::Joined`], everything before it has been delivered here, or is lost.
    pub(super) fn locate(
        &mut self,
        channel: &Name,
        call: T,
        now: Instant,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        self.ask_owner(channel, Subject::Position, None, Some(call), now, effects);
    }

    /// A member is about to move: it is sent nothing more. Returns up to where it has everything, in
    /// each of its channels.
    ///
    /// # Errors
    /// It is in other channels than these, or joins one.
    pub(super) fn hold(
        &mut self,
        session: i64,
        member: &M,
        channels: &[Name],
    ) -> Result<Vec<(Name, Position)>> {
        let subject = |pending: &Subject<M>| matches!(pending, Subject::Member(it) if it == member);
        let waiting = self.waiting.iter().filter_map(|it| self.channels.get(it));
        let joins = waiting
            .flat_map(|it| &it.pending)
            .any(|it| subject(&it.subject));
        if joins || self.channels_of(member) != channels || self.holds.contains_key(&session) {
            return Err(conflict("the channels of the session change"));
        }
        let mut hold = Hold::new(Some(member.clone()), None);
        let mut positions = Vec::with_capacity(channels.len());
        for channel in channels {
            if let Some(joined) = self.channels.get_mut(channel) {
                let position = joined.remove(member).unwrap_or(joined.seen);
                joined.holds.insert(session);
                self.memberships -= 1;
                hold.add(channel, position);
                positions.push((channel.clone(), position));
            }
        }
        self.holds.insert(session, hold);
        Ok(positions)
    }

    /// A member that was about to move stays: it is sent what has waited.
    pub(super) fn release(
        &mut self,
        session: i64,
        now: Instant,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        let leaves = |hold: &mut Hold<M>| hold.member.is_some();
        let hold = self.holds.get_mut(&session).is_some_and(leaves);
        let Some(hold) = hold.then(|| self.holds.remove(&session)).flatten() else {
            return;
        };
        let is_full = hold.is_full;
        let Some(member) = hold.member else { return };
        for (channel, waiting) in hold.channels {
            let Waiting { since, .. } = waiting;
            self.go_on(session, &member, &channel, waiting, since, effects);
            self.raise(&channel, now, effects);
        }
        if is_full {
            effects.push(GateEffect::Missed(member));
        }
    }

    /// An expected session comes, and has everything up to these positions: it is a member.
    ///
    /// # Errors
    /// It was not expected in these channels, or too long ago, or too much was published since.
    pub(super) fn arrive(
        &mut self,
        session: i64,
        member: &M,
        positions: &[(Name, Position)],
        now: Instant,
        effects: &mut Vec<GateEffect<M, T>>,
    ) -> Result {
        let hold = self.holds.get(&session).filter(|it| it.member.is_none());
        let hold = hold.ok_or_else(not_expected)?;
        let has_all = positions.iter().all(|(channel, position)| {
            let waiting = hold.channels.get(channel);
            waiting.is_some_and(|waiting| waiting.since <= *position)
        });
        if !has_all || hold.is_full {
            return Err(not_expected());
        }
        let mut hold = self.holds.remove(&session).ok_or_else(not_expected)?;
        for (channel, position) in positions {
            if let Some(waiting) = hold.channels.remove(channel) {
                let channels = self.by_member.entry(member.clone()).or_default();
                channels.push(channel.clone());
                self.go_on(session, member, channel, waiting, *position, effects);
                self.raise(channel, now, effects);
            }
        }
        // Of a former attempt.
        for channel in hold.channels.into_keys() {
            if let Some(joined) = self.channels.get_mut(&channel) {
                joined.holds.remove(&session);
            }
            self.settle(&channel, effects);
        }
        Ok(())
    }

    /// Drops what waits for a session.
    pub(super) fn drop_hold(&mut self, session: i64, effects: &mut Vec<GateEffect<M, T>>) {
        for channel in self
            .holds
            .remove(&session)
            .into_iter()
            .flat_map(|it| it.channels)
        {
            if let Some(joined) = self.channels.get_mut(&channel.0) {
                joined.holds.remove(&session);
            }
            self.settle(&channel.0, effects);
        }
    }

    /// Lets the owner of a channel know of a position that a member brought along, if it is behind what
    /// was delivered here. An owner of a lower epoch would send the member nothing.
    fn raise(&mut self, channel: &Name, now: Instant, effects: &mut Vec<GateEffect<M, T>>) {
        let joined = self.channels.get(channel);
        if joined.is_some_and(|joined| joined.is_ahead()) {
            self.ask_owner(channel, Subject::Position, None, None, now, effects);
        }
    }

    /// Makes a session a member of a channel that has everything up to a position, and hands it the
    /// rest of what has waited.
    fn go_on(
        &mut self,
        session: i64,
        member: &M,
        channel: &Name,
        waiting: Waiting,
        position: Position,
        effects: &mut Vec<GateEffect<M, T>>,
    ) {
        let Some(joined) = self.channels.get_mut(channel) else {
            return;
        };
        joined.holds.remove(&session);
        joined.add(member.clone(), position);
        self.memberships += 1;
        let only = Arc::new(vec![member.clone()]);
        let publications = waiting.publications.into_iter();
        let missed = publications.filter(|publication| publication.position > position);
        effects.extend(missed.map(|publication| GateEffect::Push {
            members: only.clone(),
            publication,
        }));
    }
}

fn conflict(why: &'static str) -> Error {
    Error::new(code::CONFLICT, why)
}
