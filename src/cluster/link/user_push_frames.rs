//! Pushes to users at the peer, and of the peer to users at this gate: their frames, and what follows
//! from these. No I/O.

use std::{iter, task::Waker};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    effect::Effect,
    proto::{Frame, Kind, Missed, Users},
    sender::Sender,
    session::LinkedSession,
    state::LinkState,
    user_pushes::{Done, Handled},
};
use crate::{
    error::{Error, Result, code},
    session::{Push, UserId},
};

impl Frame {
    /// A push to users.
    pub(super) fn user_push<'a>(
        mut users: impl Iterator<Item = &'a UserId>,
        push: &Push<'_>,
    ) -> Self {
        let frame = Self {
            route: Bytes::copy_from_slice(push.route().as_bytes()),
            body: push.body().clone(),
            ..Self::of(Kind::UserPush, 0)
        }
        .with_user(users.next());
        let mut more = Users::default();
        for user in users {
            let (number, text) = UserId::parts(Some(user));
            more.uids.push(number);
            if number == 0 {
                more.texts.push(text.to_owned());
            }
        }
        Self {
            more: (!more.uids.is_empty()).then(|| Box::new(more)),
            ..frame
        }
    }

    /// How many users a USER_PUSH is for.
    fn user_count(&self) -> usize {
        1 + self.more.as_ref().map_or(0, |more| more.uids.len())
    }

    /// The users of a USER_PUSH, in the order of their numbers. `None` for an id that is illegal.
    pub(super) fn users(&self) -> impl Iterator<Item = Option<UserId>> {
        let more = self.more.as_deref();
        let mut texts = more.into_iter().flat_map(|more| &more.texts);
        let uids = more.into_iter().flat_map(|more| &more.uids);
        let others = uids.map(move |&number| {
            let text = match number {
                0 => texts.next().map_or("", String::as_str),
                _ => "",
            };
            UserId::of_parts(number, text)
        });
        iter::once(self.user_id()).chain(others)
    }

    fn users_pushed(last: u64, missed: Vec<u64>) -> Self {
        let missed = (!missed.is_empty()).then(|| Box::new(Missed { numbers: missed }));
        Self {
            request: last,
            missed,
            ..Self::of(Kind::UsersPushed, 0)
        }
    }
}

impl<S: LinkedSession> LinkState<S> {
    /// Queues a push to users at the peer. `number` returns the first of so many numbers, all larger than
    /// those before.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] when the peer cannot be reached, [`code::TOO_MANY`].
    pub(super) fn push_to_users(
        &mut self,
        mut frame: Frame,
        number: impl FnOnce(u64) -> u64,
        done: Done,
    ) -> Result<Option<Waker>> {
        let Self {
            sender, node_quota, ..
        } = self;
        if sender.is_down() {
            return Err(Error::new(code::UNAVAILABLE, "the gate cannot be reached"));
        }
        let users = frame.user_count();
        let first = number(users as u64);
        frame.request = first;
        let writer = sender.try_push(frame, node_quota)?;
        sender.user_pushes.queued(first, users, done);
        Ok(writer)
    }

    /// Whether the peer has not acknowledged all pushes.
    pub(super) fn awaits_user_pushes(&self) -> bool {
        !self.sender.user_pushes.is_empty()
    }

    /// Handles USERS_PUSHED.
    pub(super) fn handle_users_pushed(&mut self, frame: &Frame, effects: &mut Vec<Effect<S>>) {
        let missed = frame.missed.as_ref().map_or(&[][..], |it| &it.numbers);
        let mut ended = Vec::new();
        let pushes = &mut self.sender.user_pushes;
        pushes.acknowledged(frame.request, missed, &mut ended);
        effects.push(Effect::UserPushesEnded(ended));
    }

    /// A USER_PUSH of the peer was handled, whose first user has this number. The places of users without a
    /// session are `missed`.
    pub(super) fn user_push_handled(&mut self, first: u64, users: usize, missed: &[usize]) {
        let handled = self.receiver.user_pushes.get_or_insert_default();
        let number = |place: &usize| first.saturating_add(*place as u64);
        handled.last = first.saturating_add(users.saturating_sub(1) as u64);
        handled.missed.extend(missed.iter().map(number));
    }

    /// Acknowledges what was handled, behind a whole batch: one frame for all its pushes. Bounded by
    /// these. Returns the writer to wake.
    pub(super) fn acknowledge_user_pushes(&mut self) -> Option<Waker> {
        let Handled { last, missed } = self.receiver.user_pushes.take()?;
        self.sender.push(Frame::users_pushed(last, missed))
    }
}

impl<S: LinkedSession> Sender<S> {
    /// Ends all pushes: their acknowledgements are lost. Those that are still queued are not sent.
    pub(super) fn fail_user_pushes(&mut self, effects: &mut Vec<Effect<S>>) {
        if self.user_pushes.is_empty() {
            return;
        }
        self.queue.retain(|frame| frame.kind() != Kind::UserPush);
        let mut ended = Vec::new();
        self.user_pushes.fail(&mut ended);
        effects.push(Effect::UserPushesEnded(ended));
    }

    /// Ends the pushes that have waited too long.
    pub(super) fn probe_user_pushes(&mut self, now: Instant, effects: &mut Vec<Effect<S>>) {
        let mut ended = Vec::new();
        self.user_pushes.probe(now, &mut ended);
        if !ended.is_empty() {
            effects.push(Effect::UserPushesEnded(ended));
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn users_keep_their_places_in_a_frame_and_an_illegal_id_has_one_too() {
        let ids = |ids: &[&str]| -> Vec<UserId> {
            let id = |id: &&str| id.parse::<i64>().map_or((*id).into(), UserId::from);
            ids.iter().map(id).collect()
        };
        let push = Push::new("on", Bytes::new());
        for users in [
            ids(&["7"]),
            ids(&["ann"]),
            ids(&["7", "ann", "8", "ben", "9"]),
            ids(&["ann", "ben", "7", "7"]),
        ] {
            let frame = Frame::user_push(users.iter(), &push);
            assert_eq!(frame.user_count(), users.len());
            let frame = Frame::decode(&*frame.encode_to_vec()).unwrap();
            let read: Vec<_> = frame.users().map(Option::unwrap).collect();
            assert_eq!(read, users);
        }
        let mut frame = Frame::user_push(ids(&["-1", "ann", "8"]).iter(), &push);
        assert_eq!(
            frame.users().map(|user| user.is_some()).collect::<Vec<_>>(),
            [false, true, true]
        );
        frame.more.as_mut().unwrap().texts.clear();
        assert_eq!(
            frame.users().map(|user| user.is_some()).collect::<Vec<_>>(),
            [false, false, true]
        );
    }
}
