//! The members that serve one session, by service.

use parking_lot::RwLock;

/// The bindings of one session. A list, because a session has few.
#[derive(Debug, Default)]
pub(crate) struct Bindings(RwLock<Vec<(String, String)>>);

impl Bindings {
    /// Binds a service to a member's address, or to none.
    pub(crate) fn set(&self, service: &str, address: Option<&str>) {
        let mut bindings = self.0.write();
        let Some(address) = address else {
            return bindings.retain(|(bound, _)| bound != service);
        };
        match bindings.iter_mut().find(|(bound, _)| bound == service) {
            Some((_, old)) => address.clone_into(old),
            None => bindings.push((service.to_owned(), address.to_owned())),
        }
    }

    /// Returns the address a service is bound to.
    pub(super) fn find(&self, service: &str) -> Option<String> {
        self.with(service, |address| Some(address.to_owned()))
    }

    /// Reads a binding without a copy. `look` runs under the lock.
    pub(crate) fn with<R>(&self, service: &str, look: impl FnOnce(&str) -> Option<R>) -> Option<R> {
        self.0
            .read()
            .iter()
            .find(|(bound, _)| bound == service)
            .and_then(|(_, address)| look(address))
    }

    /// Copies all bindings: services and addresses.
    pub(crate) fn list(&self) -> Vec<(String, String)> {
        self.0.read().clone()
    }

    /// Removes all bindings to a member.
    pub(crate) fn forget(&self, member: &str) {
        self.0.write().retain(|(_, address)| address != member);
    }
}
