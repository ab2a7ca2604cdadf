//! The members that serve one session, by service, and those that served it before.

use std::mem;

use parking_lot::RwLock;

/// The bindings of one session.
#[derive(Debug, Default)]
pub(crate) struct Bindings(RwLock<Members>);

/// Lists, because a session has few.
#[derive(Debug, Default)]
struct Members {
    /// Services, and the addresses they are bound to.
    bound: Vec<(String, String)>,
    /// The addresses of members at which the session has ended before it does at its gate.
    former: Vec<String>,
}

impl Bindings {
    /// Binds a service to a member's address, or to none.
    pub(crate) fn set(&self, service: &str, address: Option<&str>) {
        let bindings = &mut self.0.write().bound;
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
            .bound
            .iter()
            .find(|(bound, _)| bound == service)
            .and_then(|(_, address)| look(address))
    }

    /// Copies all bindings: services and addresses.
    pub(crate) fn list(&self) -> Vec<(String, String)> {
        self.0.read().bound.clone()
    }

    /// Removes all bindings to a member, at which the session has ended.
    pub(crate) fn forget(&self, member: &str) {
        let mut members = self.0.write();
        members.bound.retain(|(_, address)| address != member);
        if !members.former.iter().any(|former| former == member) {
            members.former.push(member.to_owned());
        }
    }

    /// Takes the members at which the session ended before it did at its gate.
    pub(crate) fn take_former(&self) -> Vec<String> {
        mem::take(&mut self.0.write().former)
    }
}
