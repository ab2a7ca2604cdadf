//! The members that serve one session, by service.

use parking_lot::RwLock;

/// The bindings of one session: which member serves it for which service.
///
/// A gate binds a service to the member it chose for the session's first message. On the gate the
/// application may bind too; the next message goes there. On a backend, bindings concern the
/// session's calls from that node only: they do not reach the gate.
///
/// ```
/// # use nano::{Result, Session};
/// fn enter_room(session: &Session, address: String) -> Result {
///     session.router().bind("Room", address);
///     Ok(())
/// }
/// ```
///
/// A list, because a session has few bindings.
#[derive(Debug, Default)]
pub struct Router(RwLock<Vec<(String, String)>>);

impl Router {
    /// Binds a service to a member's address. Messages of the session for it go there from now on.
    pub fn bind(&self, service: impl Into<String>, address: impl Into<String>) {
        let (service, address) = (service.into(), address.into());
        let mut bindings = self.0.write();
        match bindings.iter_mut().find(|(bound, _)| *bound == service) {
            Some((_, old)) => *old = address,
            None => bindings.push((service, address)),
        }
    }

    /// The address of the member a service is bound to.
    pub fn find(&self, service: &str) -> Option<String> {
        self.0
            .read()
            .iter()
            .find(|(bound, _)| bound == service)
            .map(|(_, address)| address.clone())
    }

    /// Reads a binding without a copy. `look` runs under the lock.
    pub(crate) fn with<R>(&self, service: &str, look: impl FnOnce(&str) -> Option<R>) -> Option<R> {
        self.0
            .read()
            .iter()
            .find(|(bound, _)| bound == service)
            .and_then(|(_, address)| look(address))
    }

    /// Removes all bindings to a member.
    pub(crate) fn forget(&self, member: &str) {
        self.0.write().retain(|(_, address)| address != member);
    }

    /// Removes the binding of a service. The balance policy chooses for its next message.
    pub fn delete(&self, service: &str) {
        self.0.write().retain(|(bound, _)| bound != service);
    }
}
