//! Which connections of other nodes are kept: the bounds, and which connection makes room. No I/O.
//!
//! A connection is *unauthenticated* until its first call with the cluster's token (without a token,
//! its first call). Such connections never take the place of a member: where a bound is reached, the
//! oldest of them is displaced in favour of the newcomer, which may be a member.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

/// Bounds of the connections that a node accepts from other nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// All connections.
    pub(crate) total: usize,
    /// The connections of one IP address.
    pub(crate) per_address: usize,
    /// The connections without an authenticated call yet.
    pub(crate) unauthenticated: usize,
}

impl Default for ConnectionLimits {
    /// A member opens about four connections to each other one, and a register holds 4,096 members.
    fn default() -> Self {
        Self {
            total: 16 * 1024,
            per_address: 4 * 1024,
            unauthenticated: 512,
        }
    }
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// [`ConnectionLimits::total`], by authenticated connections.
    Total,
    /// [`ConnectionLimits::per_address`], by authenticated connections.
    Address,
}

impl Exceeded {
    /// Returns the label of the metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Total => "limit",
            Self::Address => "address_limit",
        }
    }
}

/// A connection that was admitted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// Identifies the connection in later calls. A later connection has a larger id.
    pub(super) id: u64,
    /// The connection that has to be closed for it.
    pub(super) displaced: Option<u64>,
}

/// The open connections of other nodes.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    limits: ConnectionLimits,
    next: u64,
    /// The address of every connection.
    open: HashMap<u64, IpAddr>,
    /// How many connections each address has.
    by_address: HashMap<IpAddr, usize>,
    /// The connections without an authenticated call, oldest first.
    unauthenticated: BTreeMap<u64, IpAddr>,
    /// How many of `unauthenticated` each address has.
    unauthenticated_by_address: HashMap<IpAddr, usize>,
}

impl ConnectionTable {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            next: 0,
            open: HashMap::new(),
            by_address: HashMap::new(),
            unauthenticated: BTreeMap::new(),
            unauthenticated_by_address: HashMap::new(),
        }
    }

    /// Admits a connection from `address`, unless authenticated ones fill a bound.
    pub(super) fn admit(&mut self, address: IpAddr) -> Result<Admitted, Exceeded> {
        let of_address = self.by_address.get(&address).copied().unwrap_or_default();
        let displaced = if of_address >= self.limits.per_address {
            Some(self.oldest_of(address).ok_or(Exceeded::Address)?)
        } else if self.open.len() >= self.limits.total {
            Some(self.displaceable().ok_or(Exceeded::Total)?)
        } else if self.unauthenticated.len() >= self.limits.unauthenticated {
            self.displaceable()
        } else {
            None
        };
        if let Some(displaced) = displaced {
            self.close(displaced);
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, address);
        *self.by_address.entry(address).or_default() += 1;
        self.unauthenticated.insert(id, address);
        *self.unauthenticated_by_address.entry(address).or_default() += 1;
        Ok(Admitted { id, displaced })
    }

    /// Notes the first authenticated call of a connection: it is not displaced any more. Without
    /// effect on a connection that was displaced already.
    pub(super) fn authenticate(&mut self, id: u64) {
        if let Some(address) = self.unauthenticated.remove(&id) {
            decrement(&mut self.unauthenticated_by_address, address);
        }
    }

    /// Forgets a connection, if it is known.
    pub(super) fn close(&mut self, id: u64) {
        self.authenticate(id);
        if let Some(address) = self.open.remove(&id) {
            decrement(&mut self.by_address, address);
        }
    }

    /// Returns the oldest unauthenticated connection of the address that has most of them: an
    /// address that floods the port displaces its own connections first.
    fn displaceable(&self) -> Option<u64> {
        let (&address, _) = self
            .unauthenticated_by_address
            .iter()
            .max_by_key(|&(_, count)| count)?;
        self.oldest_of(address)
    }

    fn oldest_of(&self, address: IpAddr) -> Option<u64> {
        self.unauthenticated
            .iter()
            .find(|&(_, of)| *of == address)
            .map(|(&id, _)| id)
    }
}

fn decrement(counts: &mut HashMap<IpAddr, usize>, address: IpAddr) {
    if let Some(count) = counts.get_mut(&address) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn table(total: usize, per_address: usize, unauthenticated: usize) -> ConnectionTable {
        ConnectionTable::new(ConnectionLimits {
            total,
            per_address,
            unauthenticated,
        })
    }

    fn admitted(id: u64, displaced: Option<u64>) -> Result<Admitted, Exceeded> {
        Ok(Admitted { id, displaced })
    }

    #[test]
    fn the_oldest_unauthenticated_connection_makes_room() {
        let mut table = table(10, 10, 2);
        assert_eq!(table.admit(A), admitted(0, None));
        table.authenticate(0);
        assert_eq!(table.admit(A), admitted(1, None));
        assert_eq!(table.admit(A), admitted(2, None));
        assert_eq!(table.admit(A), admitted(3, Some(1)), "0 is a member");
        table.authenticate(1);
        assert_eq!(table.admit(A), admitted(4, Some(2)), "1 is gone");
    }

    #[test]
    fn an_address_that_floods_displaces_its_own_connections() {
        let mut table = table(100, 100, 4);
        assert_eq!(table.admit(B), admitted(0, None));
        for id in 1..4 {
            assert_eq!(table.admit(A), admitted(id, None));
        }
        for id in 4..50 {
            assert_eq!(table.admit(A), admitted(id, Some(id - 3)));
        }
        assert_eq!(table.unauthenticated.first_key_value(), Some((&0, &B)));
    }

    #[test]
    fn authenticated_connections_fill_the_bounds_and_are_never_displaced() {
        let mut table = table(3, 2, 3);
        for id in 0..2 {
            assert_eq!(table.admit(A), admitted(id, None));
            table.authenticate(id);
        }
        assert_eq!(table.admit(A), Err(Exceeded::Address));
        assert_eq!(table.admit(B), admitted(2, None));
        assert_eq!(table.admit(B), admitted(3, Some(2)), "the total is full");
        table.authenticate(3);
        assert_eq!(table.admit(B), Err(Exceeded::Total));
        table.close(0);
        assert_eq!(table.admit(A), admitted(4, None));
    }

    #[test]
    fn closed_connections_leave_nothing() {
        let mut table = table(8, 8, 8);
        for round in 0..100 {
            let Ok(Admitted { id, .. }) = table.admit(if round % 2 == 0 { A } else { B }) else {
                panic!("refused");
            };
            if round % 3 == 0 {
                table.authenticate(id);
            }
            table.close(id);
            table.close(id);
        }
        let left = (
            table.open.len(),
            table.by_address.len(),
            table.unauthenticated.len(),
            table.unauthenticated_by_address.len(),
        );
        assert_eq!(left, (0, 0, 0, 0));
    }
}
