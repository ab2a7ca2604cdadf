//! Sessions by id and by user.

use std::{collections::HashMap, ptr, sync::Arc};

use super::{handle::SessionInner, user_id::UserId};

/// The sessions of a node. The three maps change together.
#[derive(Default)]
pub(super) struct Table {
    pub(super) local: HashMap<i64, Arc<SessionInner>>,
    /// Several under one id, because gates of basic members may give one id twice.
    pub(super) remote: HashMap<i64, Vec<Arc<SessionInner>>>,
    pub(super) remote_count: usize,
    pub(super) by_user: HashMap<UserId, Vec<Arc<SessionInner>>>,
}

impl Table {
    pub(super) fn entry(&self, inner: &SessionInner) -> Option<&Arc<SessionInner>> {
        if inner.remote {
            self.remote
                .get(&inner.id)?
                .iter()
                .find(|entry| ptr::eq(&***entry, inner))
        } else {
            self.local
                .get(&inner.id)
                .filter(|entry| ptr::eq(&***entry, inner))
        }
    }

    pub(super) fn remove(&mut self, inner: &SessionInner) {
        if self.entry(inner).is_none() {
            return;
        }
        self.forget_user(inner.user(), inner);
        if !inner.remote {
            self.local.remove(&inner.id);
        } else if let Some(sessions) = self.remote.get_mut(&inner.id) {
            sessions.retain(|entry| !ptr::eq(&**entry, inner));
            self.remote_count -= 1;
            if sessions.is_empty() {
                self.remote.remove(&inner.id);
            }
        }
    }

    pub(super) fn forget_user(&mut self, user: Option<UserId>, inner: &SessionInner) {
        if let Some(user) = user
            && let Some(bound) = self.by_user.get_mut(&user)
        {
            bound.retain(|entry| !ptr::eq(&**entry, inner));
            if bound.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }
}
