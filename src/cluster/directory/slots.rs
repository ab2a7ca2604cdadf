//! Which node is the owner of a user: a stable hash, slots, and rendezvous hashing.
//!
//! The functions here are part of the protocol. Nodes of different versions that disagree would
//! grant one user twice, so golden values pin them.

use crate::{
    cluster::stable_hash::{fnv1a, mix},
    session::UserId,
};

/// The number of slots that users and channels fall into.
pub(crate) const SLOTS: usize = 1024;

/// Returns the hash of a user: FNV-1a over a tag and the id, then [`mix`].
///
/// A number is the tag 1 and eight bytes, the lowest first; a text is the tag 2 and its bytes.
pub(crate) fn user_hash(user: &UserId) -> u64 {
    match (user.number(), user.text()) {
        (Some(number), _) => hash(1, &number.to_le_bytes()),
        (None, text) => hash(2, text.unwrap_or_default().as_bytes()),
    }
}

/// Returns the slot of a user, below [`SLOTS`].
pub(crate) fn slot_of(user: &UserId) -> u16 {
    slot(user_hash(user))
}

/// Returns the hash of a node's address, with the tag 4.
pub(super) fn node_hash(address: &str) -> u64 {
    hash(4, address.as_bytes())
}

/// Returns the weight of a node for a slot. The node with the highest weight owns the slot; of two
/// equal weights, the one of the first address.
pub(super) fn weight(node_hash: u64, slot: u16) -> u64 {
    mix(node_hash ^ mix(u64::from(slot) + 1))
}

fn slot(hash: u64) -> u16 {
    // The highest ten bits, so that the lowest remain for hash tables and streams.
    (hash >> 54) as u16
}

fn hash(tag: u8, bytes: &[u8]) -> u64 {
    mix(fnv1a([&tag].into_iter().chain(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_slots_and_owners_never_change() {
        let users = [
            UserId::from(1),
            42.into(),
            i64::MAX.into(),
            "a".into(),
            "42".into(),
        ];
        let found: Vec<_> = users
            .iter()
            .map(|user| (user_hash(user), slot_of(user)))
            .collect();
        let expected = [
            (18_351_416_380_681_272_933, 1018),
            (450_437_470_286_992_571, 25),
            (12_389_963_764_509_115_178, 687),
            (11_444_171_551_863_152_854, 635),
            (5_103_739_956_661_782_175, 283),
        ];
        assert_eq!(found, expected);
        assert_eq!(node_hash("10.0.0.1:9000"), 7_081_414_255_988_485_087);
        assert_eq!(
            weight(node_hash("10.0.0.1:9000"), 7),
            5_300_859_076_414_287_254
        );
    }
}
