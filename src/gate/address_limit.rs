//! The connections of each client address, and their bound.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

/// Counts connections by address; IPv6 addresses by their first 64 bits, which is what one customer
/// of a provider has at least.
#[derive(Debug)]
pub(super) struct AddressLimit {
    /// Connections by address. Held for one change; no other lock is taken while it is held.
    open: Mutex<HashMap<u64, usize>>,
}

impl AddressLimit {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
        })
    }

    /// Counts a connection until the permit is dropped; `None` at the bound. Connections that came
    /// while there was none are not counted.
    pub(super) fn acquire(self: &Arc<Self>, ip: IpAddr, bound: usize) -> Option<AddressPermit> {
        let key = key(ip);
        let mut open = self.open.lock();
        let count = open.entry(key).or_default();
        if *count >= bound {
            return None;
        }
        *count += 1;
        Some(AddressPermit {
            limit: self.clone(),
            key,
        })
    }
}

/// IPv4 addresses lie in `::ffff:0:0/96`, whose first 64 bits no IPv6 client has.
fn key(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_bits().into(),
        // The upper half of global addresses is never below 2^32.
        IpAddr::V6(ip) => match (ip.to_bits() >> 64) as u64 {
            0 => u64::MAX,
            network => network,
        },
    }
}

/// One counted connection.
#[derive(Debug)]
pub(super) struct AddressPermit {
    limit: Arc<AddressLimit>,
    key: u64,
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut open = self.limit.open.lock();
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_and_an_ipv6_network_are_counted_each() {
        let limit = AddressLimit::new();
        let acquire = |ip: &str| limit.acquire(ip.parse().unwrap(), 2);
        let held: Vec<_> = [
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "10.0.0.2",
            "2001:db8:0:1::1",
            "2001:db8:0:1:ffff::2",
            "2001:db8:0:2::1",
            "::1",
        ]
        .into_iter()
        .map(|ip| acquire(ip).unwrap())
        .collect();
        for full in ["10.0.0.1", "2001:db8:0:1:2:3:4:5"] {
            assert!(acquire(full).is_none(), "{full}");
        }
        for free in [
            "10.0.0.2",
            "10.0.0.3",
            "2001:db8:0:2::9",
            "2001:db8::1",
            "::1",
        ] {
            assert!(acquire(free).is_some(), "{free}");
        }
        drop(held);
        assert!(limit.open.lock().is_empty());
    }
}
