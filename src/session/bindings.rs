//! The members that serve one session, by service.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

use parking_lot::RwLock;

/// How many members have left, as nodes of this process have learned it.
static DEPARTURES: AtomicU64 = AtomicU64::new(0);

/// The bindings of one session. A list, because a session has few.
#[derive(Debug, Default)]
pub(crate) struct Bindings(RwLock<Vec<Binding>>);

#[derive(Debug)]
struct Binding {
    service: String,
    address: String,
    /// The departures before it was made.
    since: u64,
}

/// A member that has left.
#[derive(Debug)]
pub(crate) struct Departure {
    address: String,
    number: u64,
}

impl Departure {
    /// Notes that a member has left. Bindings that are made from now on are not to it, but to one that has
    /// come in its place.
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            number: DEPARTURES.fetch_add(1, Release) + 1,
        }
    }

    /// The departures so far, with this one.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Bindings {
    /// Binds a service to a member's address, or to none.
    pub(crate) fn set(&self, service: &str, address: Option<&str>) {
        let mut bindings = self.0.write();
        let Some(address) = address else {
            return bindings.retain(|binding| binding.service != service);
        };
        let since = DEPARTURES.load(Acquire);
        match bindings.iter_mut().find(|it| it.service == service) {
            Some(binding) => {
                address.clone_into(&mut binding.address);
                binding.since = since;
            }
            None => bindings.push(Binding {
                service: service.to_owned(),
                address: address.to_owned(),
                since,
            }),
        }
    }

    /// Returns the address a service is bound to.
    pub(super) fn find(&self, service: &str) -> Option<String> {
        self.with(service, |address, _| Some(address.to_owned()))
    }

    /// Reads a binding without a copy: the address, and the departures before it was made. `look` runs under the
    /// lock.
    pub(crate) fn with<R>(
        &self,
        service: &str,
        look: impl FnOnce(&str, u64) -> Option<R>,
    ) -> Option<R> {
        let bindings = self.0.read();
        let binding = bindings.iter().find(|it| it.service == service)?;
        look(&binding.address, binding.since)
    }

    /// Copies all bindings: services and addresses.
    pub(crate) fn list(&self) -> Vec<(String, String)> {
        let bindings = self.0.read();
        let pair = |it: &Binding| (it.service.clone(), it.address.clone());
        bindings.iter().map(pair).collect()
    }

    /// Removes all bindings to an address.
    pub(crate) fn forget(&self, address: &str) {
        self.0.write().retain(|binding| binding.address != address);
    }

    /// Removes all bindings to a member that has left. Those to another one at its address stay.
    pub(crate) fn forget_departed(&self, left: &Departure) {
        let is_past = |it: &Binding| it.address == left.address && it.since < left.number;
        if self.0.read().iter().any(is_past) {
            self.0.write().retain(|binding| !is_past(binding));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_to_a_member_that_left_are_forgotten_and_those_to_its_successor_are_not() {
        let [first, second] = [Bindings::default(), Bindings::default()];
        first.set("Room", Some("a"));
        first.set("Chat", Some("b"));
        second.set("Room", Some("a"));
        let left = Departure::new("a");
        second.set("Room", Some("a"));
        for bindings in [&first, &second] {
            bindings.forget_departed(&left);
        }
        assert_eq!(first.list(), [("Chat".to_owned(), "b".to_owned())]);
        assert_eq!(second.find("Room").as_deref(), Some("a"));
        second.forget_departed(&Departure::new("a"));
        assert_eq!(second.find("Room"), None);
    }
}
