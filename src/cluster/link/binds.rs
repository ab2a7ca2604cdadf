//! The user and the bindings of a session, as a node that serves it changes them. No I/O.

use std::task::Waker;

use super::{proto::Frame, served_session::ServedRoute, session::LinkedSession, state::LinkState};
use crate::{error::Result, session::UserId};

impl<S: LinkedSession> LinkState<S> {
    /// Binds a session to a user, or to none, and asks its gate to do so.
    ///
    /// # Errors
    /// [`code::CLOSED`]. This node's copy has the user then, all the same.
    pub(super) fn bind(
        &mut self,
        session: &S,
        key: u64,
        user: Option<UserId>,
    ) -> Result<Option<Waker>> {
        // Under the lock, so that it has an order with the users that the gate announces.
        session.rebind(user.clone());
        self.receiver.open_session(session.id(), key)?;
        let number = self.receiver.next_bind();
        let bind = Frame::bind(session.id(), user.as_ref(), number);
        // Not within the session's quota: its pushes must not keep a bind from being sent. A gate
        // that takes nothing at all is cut off; its own user counts when it is back.
        let Ok(writer) = self.sender.try_push(bind, &self.node_quota) else {
            return Ok(None);
        };
        self.receiver.bind_sent(session.id(), number);
        Ok(writer)
    }

    /// Asks the gate of a session to bind a service to an address, or to none.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the session has ended, [`code::TOO_MANY`].
    pub(super) fn route(
        &mut self,
        id: i64,
        key: u64,
        service: &str,
        address: Option<&str>,
    ) -> Result<Option<Waker>> {
        self.receiver.open_session(id, key)?;
        let number = self.receiver.next_bind();
        let frame = Frame::route(id, service, address, number);
        let writer = self.sender.try_push(frame, &self.node_quota)?;
        let route = ServedRoute {
            number,
            service: service.to_owned(),
            address: address.map(str::to_owned),
        };
        self.receiver.route_sent(id, route);
        Ok(writer)
    }
}
