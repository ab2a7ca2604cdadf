//! What a link needs of a session.

use crate::session::{Session, SharedValues, UserId};

/// A session handle as [`LinkState`](super::state::LinkState) keeps it, so that tests can use one of
/// their own.
///
/// Called under the lock of the link: no method may block or run the application's code.
pub(in crate::cluster) trait LinkedSession: Clone {
    fn id(&self) -> i64;
    fn user(&self) -> Option<UserId>;
    /// The address of the client, empty if it is unknown.
    fn client_address(&self) -> String;
    fn is_closed(&self) -> bool;
    /// Sets the user of this node's copy of the session.
    fn rebind(&self, user: Option<UserId>);
    /// This node's copy of the session's shared values.
    fn shared(&self) -> &SharedValues;
    /// The same session, for the answer to `request`.
    fn for_request(&self, request: u64) -> Self;
}

impl LinkedSession for Session {
    fn id(&self) -> i64 {
        self.id()
    }

    fn user(&self) -> Option<UserId> {
        self.user()
    }

    fn client_address(&self) -> String {
        self.remote_addr()
            .map(|address| address.to_string())
            .unwrap_or_default()
    }

    fn is_closed(&self) -> bool {
        self.closed().is_some()
    }

    fn rebind(&self, user: Option<UserId>) {
        self.inner().rebind(user);
    }

    fn shared(&self) -> &SharedValues {
        &self.inner().shared
    }

    fn for_request(&self, request: u64) -> Self {
        self.with_request(request)
    }
}
