//! Pushes to users of the other node. Each ends once: with exactly those that have no session there, or
//! with an error.

use bytes::Bytes;
use rand::RngExt;
use tokio::sync::oneshot;

use super::world::World;
use crate::{
    cluster::{link::proto::Frame, transport::Unreached},
    session::{Push, UserId},
};

/// A push under way.
pub(super) struct UserPush {
    users: Vec<i64>,
    ended: oneshot::Receiver<Unreached>,
}

/// Whether a user is online, at either node.
fn is_online(user: i64) -> bool {
    user % 3 != 0
}

impl World {
    pub(super) fn push_to_users(&mut self, node: usize, index: usize) {
        let count = self.random.random_range(1..4);
        let users: Vec<i64> = (0..count)
            .map(|_| self.random.random_range(1..20))
            .collect();
        let ids: Vec<_> = users.iter().copied().map(UserId::from).collect();
        self.last_user_push += 1;
        let body = Bytes::copy_from_slice(&self.last_user_push.to_le_bytes());
        let (done, ended) = oneshot::channel();
        let first = self.nodes[node].next_user;
        self.nodes[node].next_user += users.len() as u64;
        let mut refused = false;
        self.input(node, index, |link, _| {
            let frame = Frame::user_push(ids.iter(), &Push::new("on", body));
            refused = link.push_to_users(frame, |_| first, done).is_err();
        });
        if !refused {
            self.user_pushes.push(UserPush { users, ended });
        }
    }

    /// A push has arrived at a node: behind those before it.
    pub(super) fn user_push_arrived(&mut self, node: usize, index: usize, frame: &Frame) {
        let number = u64::from_le_bytes(frame.body[..].try_into().unwrap());
        let last = self.user_push_arrived.insert((node, index), number);
        assert!(last < Some(number), "push {number} behind {last:?}");
        let users: Vec<_> = frame.users().map(Option::unwrap).collect();
        let is_missed = |at: &usize| !is_online(users[*at].number().unwrap());
        let missed: Vec<_> = (0..users.len()).filter(is_missed).collect();
        self.nodes[node].links[index].user_push_handled(frame.request, users.len(), &missed);
    }

    /// Checks the pushes that have ended. With `all` none may be left.
    pub(super) fn check_user_pushes(&mut self, all: bool) {
        let mut pushes = std::mem::take(&mut self.user_pushes);
        pushes.retain_mut(|push| match push.ended.try_recv() {
            Ok(Ok(missed)) => {
                let users = push.users.iter().enumerate();
                let offline = users.filter(|(_, user)| !is_online(**user));
                let offline: Vec<_> = offline.map(|(at, _)| at).collect();
                assert_eq!(missed, offline, "{:?}", push.users);
                if !missed.is_empty() {
                    self.trouble("missed user");
                }
                false
            }
            Ok(Err(_)) => {
                self.trouble("failed push");
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => {
                assert!(!all, "a push to {:?} never ends", push.users);
                true
            }
            Err(oneshot::error::TryRecvError::Closed) => {
                // The node that pushed was started again.
                assert!(self.nodes.iter().any(|node| node.incarnation > 1));
                false
            }
        });
        self.user_pushes = pushes;
    }
}
