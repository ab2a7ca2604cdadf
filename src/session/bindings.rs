//! Which member serves which service for one session.

use parking_lot::RwLock;

/// The bindings of one session: a service, and the address of the member that serves it. A handful
/// at most, so a list.
#[derive(Debug, Default)]
pub struct Router(RwLock<Vec<(String, String)>>);

impl Router {
    /// Binds a service to a member; its messages of this session go there from now on.
    pub fn bind(&self, service: impl Into<String>, address: impl Into<String>) {
        let (service, address) = (service.into(), address.into());
        let mut bindings = self.0.write();
        match bindings.iter_mut().find(|(bound, _)| *bound == service) {
            Some((_, old)) => *old = address,
            None => bindings.push((service, address)),
        }
    }

    /// The member a service is bound to.
    pub fn find(&self, service: &str) -> Option<String> {
        self.0
            .read()
            .iter()
            .find(|(bound, _)| bound == service)
            .map(|(_, address)| address.clone())
    }

    /// Looks at a binding without a copy.
    pub(crate) fn with<R>(&self, service: &str, look: impl FnOnce(&str) -> Option<R>) -> Option<R> {
        self.0
            .read()
            .iter()
            .find(|(bound, _)| bound == service)
            .and_then(|(_, address)| look(address))
    }

    /// Forgets all bindings to a member.
    pub(crate) fn forget(&self, member: &str) {
        self.0.write().retain(|(_, address)| address != member);
    }

    /// Forgets the binding of a service; its next message is balanced anew.
    pub fn delete(&self, service: &str) {
        self.0.write().retain(|(bound, _)| bound != service);
    }
}
