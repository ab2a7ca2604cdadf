//! The nodes that may own channels, as one node knows them, and which of them owns a channel. No I/O.

use std::sync::Arc;

use crate::cluster::stable_hash::{fnv1a, mix};

/// The address of a node.
pub(super) type Address = Arc<str>;

/// The nodes of this crate in the cluster at one moment, this one included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Sorted.
    addresses: Arc<[Address]>,
    digest: u64,
}

impl View {
    /// `nodes` are the address and incarnation of each node, in any order.
    pub(super) fn new(mut nodes: Vec<(Address, u64)>) -> Self {
        nodes.sort();
        nodes.dedup_by(|a, b| a.0 == b.0);
        let digest = nodes.iter().fold(0, |digest, (address, incarnation)| {
            mix(digest ^ hash(address)).wrapping_add(mix(*incarnation))
        });
        Self {
            addresses: nodes.into_iter().map(|(address, _)| address).collect(),
            digest,
        }
    }

    /// Tells this view from others. Two nodes with equal digests know the same incarnations.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn nodes(&self) -> &[Address] {
        &self.addresses
    }

    pub(super) fn has(&self, address: &str) -> bool {
        let found = self
            .addresses
            .binary_search_by(|node| (**node).cmp(address));
        found.is_ok()
    }

    /// The node that owns a channel: the one with the highest weight for it. Most channels keep their
    /// owner when a node joins or leaves. `None` while there is no node.
    pub(super) fn owner(&self, channel: &str) -> Option<&Address> {
        let channel = hash(channel);
        let weight = |node: &&Address| (mix(channel ^ hash(node)), (*node).clone());
        self.addresses.iter().max_by_key(weight)
    }
}

/// Part of what nodes of different versions must agree on.
pub(super) fn hash(text: &str) -> u64 {
    mix(fnv1a(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(nodes: &[&str]) -> View {
        View::new(nodes.iter().map(|node| (Address::from(*node), 1)).collect())
    }

    #[test]
    fn a_channels_owner_is_the_same_for_every_version() {
        let nodes = view(&["10.0.0.1:34567", "10.0.0.2:34567", "10.0.0.3:34567"]);
        let owners =
            ["guild.7", "lobby", "世界", ""].map(|name| nodes.owner(name).unwrap().clone());
        assert_eq!(owners.map(|owner| owner.as_bytes()[7] - b'0'), GOLDEN);
        assert_eq!(hash("guild.7"), HASH);
        assert_eq!(view(&[]).owner("guild.7"), None);
    }

    const GOLDEN: [u8; 4] = [2, 3, 2, 3];
    const HASH: u64 = 6_846_194_213_912_992_114;

    #[test]
    fn a_node_that_joins_takes_its_share_of_the_channels_and_no_other_moves() {
        let (three, four) = (view(&["a", "b", "c"]), view(&["d", "c", "b", "a"]));
        assert_ne!(three.digest(), four.digest());
        assert_eq!(four.digest(), view(&["a", "b", "c", "d"]).digest());
        let (mut moved, count) = (0, 4_000);
        for name in (0..count).map(|number| format!("guild.{number}")) {
            let (before, after) = (three.owner(&name).unwrap(), four.owner(&name).unwrap());
            if before != after {
                assert_eq!(&**after, "d");
                moved += 1;
            }
        }
        assert!((count / 5..count / 3).contains(&moved), "{moved}");
    }
}
