//! The members that serve one session, as the application sees and changes them.

use super::handle::Session;
use crate::{
    error::Result,
    metrics::RefusedInput,
    serialize::{Json, Serializer},
};

/// The bindings of one session: which member serves it for which service.
///
/// A gate binds a service to the member it chose for the session's first message. The application
/// may bind as well, on any node: on a backend the binding reaches the gate ahead of everything the
/// backend sends afterwards, and holds for the session's next message.
///
/// ```
/// # use nano::{Result, Session};
/// fn enter_room(session: &Session, address: String) -> Result {
///     session.router().bind("Room", address)
/// }
/// ```
#[derive(Debug)]
pub struct Router<S: Serializer = Json>(pub(super) Session<S>);

impl<S: Serializer> Router<S> {
    /// Binds a service to a member. Messages of the session for it go there from now on.
    ///
    /// A binding that a broken link may have lost is sent again. It ends as the gate's own do: when
    /// the member leaves, or is out of reach for longer than the partition grace.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`](crate::code::NOT_FOUND) when no node has the service, or the member at
    /// this address does not. On a backend also [`code::CLOSED`](crate::code::CLOSED) when the
    /// session has ended, [`code::TOO_MANY`](crate::code::TOO_MANY) when the gate takes no more,
    /// and [`code::UNSUPPORTED`](crate::code::UNSUPPORTED) when the gate is a node of Go nano,
    /// which takes no bindings.
    pub fn bind(&self, service: impl AsRef<str>, address: impl AsRef<str>) -> Result {
        self.bind_checked(service.as_ref(), address.as_ref())
            .inspect_err(|_| self.0.input_refused(RefusedInput::Binding))
    }

    fn bind_checked(&self, service: &str, address: &str) -> Result {
        if let Some(table) = self.0.inner().table() {
            table.call_router()?.check_binding(service, address)?;
        }
        self.route(service, Some(address))
    }

    /// The address of the member a service is bound to; on a backend, what this node has bound.
    pub fn find(&self, service: &str) -> Option<String> {
        self.0.inner().bindings.find(service)
    }

    /// Removes the binding of a service. The balance policy chooses for its next message.
    ///
    /// # Errors
    /// On a backend, as [`bind`](Router::bind).
    pub fn delete(&self, service: &str) -> Result {
        self.route(service, None)
    }

    fn route(&self, service: &str, address: Option<&str>) -> Result {
        let sink = &self.0.inner().sink;
        sink.route(&self.0.typed(), service, address)
    }
}
