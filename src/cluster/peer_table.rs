//! The members, and the transport to each.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use tonic::Status;

#[cfg(feature = "admin")]
use super::transport::PeerReport;
use super::transport::PeerTransport;
use crate::{
    error::{Error, Result, code},
    member::Member,
};

/// The most services without a member that are remembered, the latest, and the most addresses. A
/// cluster has fewer services; a member that invents names must not grow the table.
const MAX_AWAY: usize = 256;

/// What the router knows of other nodes. Filled by the control plane, which knows the members, and by
/// those who make transports.
#[derive(Default)]
pub(crate) struct PeerTable(RwLock<Table>);

#[derive(Default)]
struct Table {
    members: FxHashMap<String, Member>,
    /// By address. A node may have a transport before it is a member.
    transports: FxHashMap<Arc<str>, Arc<dyn PeerTransport>>,
    /// Services that a member had before it left, oldest first. Some may have come back.
    away: VecDeque<String>,
    /// Addresses that had a member, oldest first. Some may have one again.
    left: VecDeque<String>,
}

/// A member and its transport.
pub(in crate::cluster) type Candidate = (Member, Arc<dyn PeerTransport>);

/// What the claim of an incarnation rests on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Authority {
    /// The master announced it.
    Master,
    /// The node itself reported it.
    Reported,
}

impl PeerTable {
    pub(in crate::cluster) fn insert_member(&self, member: &Member) {
        let address = member.address().to_owned();
        self.0.write().members.insert(address, member.clone());
    }

    /// Removes a member, unless another incarnation has taken its place.
    pub(in crate::cluster) fn remove_member(&self, member: &Member) {
        let mut table = self.0.write();
        if table
            .members
            .get(member.address())
            .is_some_and(|known| known.incarnation() == member.incarnation())
            && let Some(left) = table.members.remove(member.address())
        {
            table.note_away(&left);
        }
    }

    pub(in crate::cluster) fn is_member(&self, address: &str) -> bool {
        self.0.read().members.contains_key(address)
    }

    /// Makes a transport the one for its address.
    pub(in crate::cluster) fn insert(&self, address: Arc<str>, transport: Arc<dyn PeerTransport>) {
        self.0.write().transports.insert(address, transport);
    }

    /// Removes a transport, unless another has taken its place.
    pub(in crate::cluster) fn remove(&self, transport: &dyn PeerTransport) {
        let transports = &mut self.0.write().transports;
        let address = transport.address();
        if transports
            .get(address)
            .is_some_and(|known| std::ptr::addr_eq(Arc::as_ptr(known), transport))
        {
            transports.remove(address);
        }
    }

    pub(in crate::cluster) fn get(&self, address: &str) -> Option<Arc<dyn PeerTransport>> {
        self.0.read().transports.get(address).cloned()
    }

    /// All peers at this moment.
    #[cfg(feature = "admin")]
    pub(crate) fn reports(&self) -> Vec<PeerReport> {
        let mut reports = Vec::new();
        self.each(|transport| reports.push(transport.report()));
        reports
    }

    /// Looks at every transport under the lock: `look` must not take long.
    pub(in crate::cluster) fn each(&self, look: impl FnMut(&Arc<dyn PeerTransport>)) {
        self.0.read().transports.values().for_each(look);
    }

    /// Checks that an incarnation may appear at an address where no peer is.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the master has announced another one there.
    pub(in crate::cluster) fn may_come(
        &self,
        address: &str,
        incarnation: u64,
        authority: Authority,
    ) -> Result<(), Status> {
        let table = self.0.read();
        let known = table.members.get(address);
        if authority == Authority::Reported
            && known.is_some_and(|member| member.incarnation() != incarnation)
        {
            return Err(Status::unavailable(
                "the master has announced another incarnation at this address",
            ));
        }
        Ok(())
    }

    /// The members that have a service and a transport that is `usable`. With `None` no member has
    /// the service at all.
    pub(in crate::cluster) fn candidates(
        &self,
        service: &str,
        usable: impl Fn(&Arc<dyn PeerTransport>) -> bool,
    ) -> Option<Vec<Candidate>> {
        let table = self.0.read();
        let mut providers = table.providers(service).peekable();
        providers.peek()?;
        let candidates = providers.filter_map(|member| {
            let transport = table.transports.get(member.address())?;
            usable(transport).then(|| (member.clone(), transport.clone()))
        });
        Some(candidates.collect())
    }

    /// Whether any member with the service answers calls. `None` if no member has the service.
    pub(in crate::cluster) fn answers_calls(&self, service: &str) -> Option<bool> {
        let table = self.0.read();
        let mut providers = table.providers(service).peekable();
        providers.peek()?;
        Some(providers.any(|member| member.info().link))
    }

    /// The error for a route whose service no member has: `UNAVAILABLE` if one had it before, for it
    /// may come back, else `NOT_FOUND`.
    pub(in crate::cluster) fn missing(&self, service: &str, route: &str) -> Error {
        if self.0.read().away.iter().any(|away| away == service) {
            let text = format!("service {service} is away: no member offers it now");
            return Error::new(code::UNAVAILABLE, text);
        }
        Error::new(code::NOT_FOUND, format!("route not found: {route}"))
    }

    /// The addresses of all members with the service, sorted.
    pub(in crate::cluster) fn addresses(&self, service: &str) -> Vec<String> {
        let table = self.0.read();
        let mut addresses: Vec<_> = table
            .providers(service)
            .map(|member| member.address().to_owned())
            .collect();
        addresses.sort();
        addresses
    }

    /// The transport to a member that answers calls.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] for an address that never had a member, [`code::UNSUPPORTED`] for a member
    /// that cannot answer, [`code::UNAVAILABLE`] when the member has left or there is no transport.
    pub(in crate::cluster) fn answering(&self, address: &str) -> Result<Arc<dyn PeerTransport>> {
        let table = self.0.read();
        match table.members.get(address) {
            None if table.left.iter().any(|left| left == address) => Err(Error::new(
                code::UNAVAILABLE,
                format!("the member at {address} has left"),
            )),
            None => Err(Error::new(
                code::NOT_FOUND,
                format!("no member at {address}"),
            )),
            Some(member) if !member.info().link => Err(unsupported(address)),
            Some(_) => table
                .transports
                .get(address)
                .filter(|transport| transport.answers_calls())
                .cloned()
                .ok_or_else(|| {
                    Error::new(code::UNAVAILABLE, format!("{address} cannot be reached"))
                }),
        }
    }
}

impl Table {
    /// Remembers the address and the services of a member that has left.
    fn note_away(&mut self, member: &Member) {
        for service in member.services() {
            remember(&mut self.away, service);
        }
        remember(&mut self.left, member.address());
    }

    fn providers(&self, service: &str) -> impl Iterator<Item = &Member> {
        self.members
            .values()
            .filter(move |member| member.services().iter().any(|offered| offered == service))
    }
}

/// Adds a name to the latest ones, or moves it to their end.
fn remember(latest: &mut VecDeque<String>, name: &str) {
    latest.retain(|known| known != name);
    if latest.len() == MAX_AWAY {
        latest.pop_front();
    }
    latest.push_back(name.to_owned());
}

/// The error of a call for a member, or a service, that cannot answer it.
pub(in crate::cluster) fn unsupported(what: &str) -> Error {
    Error::new(
        code::UNSUPPORTED,
        format!("{what} is on a basic member, which cannot answer calls"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Info;

    #[test]
    fn the_latest_services_without_a_member_are_remembered_and_no_more() {
        let table = PeerTable::default();
        let code = |service: &str| table.missing(service, "x.Y").code().to_string();
        for number in 0..=MAX_AWAY {
            let member = Member::new(Info {
                address: "a:1".to_owned(),
                services: vec![format!("S{number}")],
                ..Info::default()
            });
            table.insert_member(&member);
            table.remove_member(&member);
            // Twice is as good as once.
            table.insert_member(&member);
            table.remove_member(&member);
        }
        assert_eq!(code("S0"), code::NOT_FOUND);
        assert_eq!(code("S1"), code::UNAVAILABLE);
        assert_eq!(code("Never"), code::NOT_FOUND);
        assert_eq!(table.0.read().away.len(), MAX_AWAY);
    }

    #[test]
    fn a_member_that_has_left_is_unavailable_and_an_unknown_address_is_not_found() {
        let table = PeerTable::default();
        let code = |address: &str| match table.answering(address) {
            Ok(_) => panic!("there is no transport to {address}"),
            Err(error) => error.code().to_string(),
        };
        for number in 0..=MAX_AWAY {
            let member = Member::new(Info {
                address: format!("a:{number}"),
                ..Info::default()
            });
            table.insert_member(&member);
            table.remove_member(&member);
        }
        assert_eq!(code("a:0"), code::NOT_FOUND);
        assert_eq!(code("a:1"), code::UNAVAILABLE);
        assert_eq!(code("never:1"), code::NOT_FOUND);
        assert_eq!(table.0.read().left.len(), MAX_AWAY);
    }
}
