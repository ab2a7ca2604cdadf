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
    transports: FxHashMap<Arc<str>, Placed<dyn PeerTransport>>,
    /// Services that a member had before it left, oldest first. Some may have come back.
    away: VecDeque<String>,
    /// Addresses that had a member, oldest first, and the number of its departure. Some may have one again.
    left: VecDeque<(String, u64)>,
}

/// A transport at its address.
struct Placed<T: ?Sized> {
    transport: Arc<T>,
    /// The number of the last departure from the address before it came; 0 for none.
    departure: u64,
}

impl<T: ?Sized> Placed<T> {
    /// What a session was bound to after so many departures; `None` if that has left since.
    fn bound_after(&self, departures: u64) -> Option<&Arc<T>> {
        (self.departure <= departures).then_some(&self.transport)
    }
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

    /// Removes a member, unless another incarnation has taken its place. Departures are numbered.
    pub(in crate::cluster) fn remove_member(&self, member: &Member, departure: u64) {
        let mut table = self.0.write();
        if table
            .members
            .get(member.address())
            .is_some_and(|known| known.incarnation() == member.incarnation())
            && let Some(left) = table.members.remove(member.address())
        {
            table.note_away(&left, departure);
        }
    }

    pub(in crate::cluster) fn is_member(&self, address: &str) -> bool {
        self.0.read().members.contains_key(address)
    }

    /// Makes a transport the one for its address.
    pub(in crate::cluster) fn insert(&self, address: Arc<str>, transport: Arc<dyn PeerTransport>) {
        let mut table = self.0.write();
        let departure = table.departure(&address);
        let placed = Placed {
            transport,
            departure,
        };
        table.transports.insert(address, placed);
    }

    /// Removes a transport, unless another has taken its place.
    pub(in crate::cluster) fn remove(&self, transport: &dyn PeerTransport) {
        let transports = &mut self.0.write().transports;
        let address = transport.address();
        if transports
            .get(address)
            .is_some_and(|known| std::ptr::addr_eq(Arc::as_ptr(&known.transport), transport))
        {
            transports.remove(address);
        }
    }

    pub(in crate::cluster) fn get(&self, address: &str) -> Option<Arc<dyn PeerTransport>> {
        let table = self.0.read();
        let known = table.transports.get(address)?;
        Some(known.transport.clone())
    }

    /// The transport to which a session was bound after so many departures. Not that of a member which came to the
    /// address of one that has left since: what it is asked for, it does not have.
    pub(in crate::cluster) fn get_bound(
        &self,
        address: &str,
        departures: u64,
    ) -> Option<Arc<dyn PeerTransport>> {
        let table = self.0.read();
        let known = table.transports.get(address)?;
        known.bound_after(departures).cloned()
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
        let table = self.0.read();
        table
            .transports
            .values()
            .map(|it| &it.transport)
            .for_each(look);
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
            let Placed { transport, .. } = transport;
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
            None if table.departure(address) > 0 => Err(Error::new(
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
                .map(|known| known.transport.clone())
                .filter(|transport| transport.answers_calls())
                .ok_or_else(|| {
                    Error::new(code::UNAVAILABLE, format!("{address} cannot be reached"))
                }),
        }
    }
}

impl Table {
    /// Remembers the address and the services of a member that has left.
    fn note_away(&mut self, member: &Member, departure: u64) {
        for service in member.services() {
            remember(&mut self.away, service.clone(), |known| known == service);
        }
        let address = member.address();
        let left = (address.to_owned(), departure);
        remember(&mut self.left, left, |(known, _)| known == address);
    }

    /// The number of the last departure from an address; 0 for none that is remembered.
    fn departure(&self, address: &str) -> u64 {
        let left = self.left.iter().find(|(known, _)| known == address);
        left.map_or(0, |(_, departure)| *departure)
    }

    fn providers(&self, service: &str) -> impl Iterator<Item = &Member> {
        self.members
            .values()
            .filter(move |member| member.services().iter().any(|offered| offered == service))
    }
}

/// Adds one to the latest, in the place of the same one before.
fn remember<T>(latest: &mut VecDeque<T>, one: T, is_same: impl Fn(&T) -> bool) {
    latest.retain(|known| !is_same(known));
    if latest.len() == MAX_AWAY {
        latest.pop_front();
    }
    latest.push_back(one);
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
            table.remove_member(&member, 1);
            // Twice is as good as once.
            table.insert_member(&member);
            table.remove_member(&member, 2);
        }
        assert_eq!(code("S0"), code::NOT_FOUND);
        assert_eq!(code("S1"), code::UNAVAILABLE);
        assert_eq!(code("Never"), code::NOT_FOUND);
        assert_eq!(table.0.read().away.len(), MAX_AWAY);
    }

    #[test]
    fn what_is_bound_to_a_member_that_left_is_not_bound_to_its_successor() {
        let table = PeerTable::default();
        let member = Member::new(Info {
            address: "a:1".to_owned(),
            ..Info::default()
        });
        let placed = |transport: &str| Placed::<str> {
            transport: transport.into(),
            departure: table.0.read().departure("a:1"),
        };
        let bound = |placed: Placed<str>, departures| {
            let transport = placed.bound_after(departures);
            transport.map(|transport| transport.to_string())
        };
        // Others have left before.
        assert_eq!(bound(placed("first"), 3).as_deref(), Some("first"));
        table.insert_member(&member);
        table.remove_member(&member, 7);
        assert_eq!(bound(placed("second"), 6), None);
        assert_eq!(bound(placed("second"), 7).as_deref(), Some("second"));
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
            table.remove_member(&member, number as u64 + 1);
        }
        assert_eq!(code("a:0"), code::NOT_FOUND);
        assert_eq!(code("a:1"), code::UNAVAILABLE);
        assert_eq!(code("never:1"), code::NOT_FOUND);
        assert_eq!(table.0.read().left.len(), MAX_AWAY);
    }
}
