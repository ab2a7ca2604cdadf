//! Which node owns a user: what `src/cluster/directory/slots.rs` says, which is part of the protocol.

use std::collections::BTreeSet;

use nano::UserId;

const SLOTS: u16 = 1024;

pub(super) fn slot_of(user: &UserId) -> u16 {
    let hash = match (user.number(), user.text()) {
        (Some(number), _) => hash(1, &number.to_le_bytes()),
        (None, text) => hash(2, text.unwrap_or_default().as_bytes()),
    };
    (hash >> 54) as u16
}

/// Returns by slot which of these nodes owns it, given by address in the order of these.
pub(super) fn owners(nodes: &[&str]) -> Vec<usize> {
    let hashes: Vec<_> = nodes.iter().map(|node| hash(4, node.as_bytes())).collect();
    let owner = |slot: u16| {
        let weight = |at: &usize| weight(hashes[*at], slot);
        (0..nodes.len()).max_by_key(weight).unwrap_or_default()
    };
    (0..SLOTS).map(owner).collect()
}

/// Returns a user in each of the slots that one of these nodes owns, with numbers above `above`.
pub(super) fn users_of(node: &str, nodes: &[&str], above: i64) -> Vec<i64> {
    let owners = owners(nodes);
    let is_owned = |slot: &u16| nodes[owners[usize::from(*slot)]] == node;
    let mut left: BTreeSet<_> = (0..SLOTS).filter(is_owned).collect();
    let mut users = Vec::with_capacity(left.len());
    for user in above + 1.. {
        if left.is_empty() {
            break;
        }
        if left.remove(&slot_of(&user.into())) {
            users.push(user);
        }
    }
    users
}

fn weight(node_hash: u64, slot: u16) -> u64 {
    mix(node_hash ^ mix(u64::from(slot) + 1))
}

fn hash(tag: u8, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = [tag].iter().chain(bytes).fold(0xcbf2_9ce4_8422_2325, step);
    mix(hash)
}

fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_owners_are_those_of_the_library() {
        let users = [
            UserId::from(1),
            42.into(),
            i64::MAX.into(),
            "a".into(),
            "42".into(),
        ];
        assert_eq!(users.map(|user| slot_of(&user)), [1018, 25, 687, 635, 283]);
        let node_hash = hash(4, b"10.0.0.1:9000");
        assert_eq!(node_hash, 7_081_414_255_988_485_087);
        assert_eq!(weight(node_hash, 7), 5_300_859_076_414_287_254);

        let nodes = ["10.0.0.1:9000", "10.0.0.2:9000"];
        let owners = owners(&nodes);
        for (at, node) in nodes.iter().enumerate() {
            let users = users_of(node, &nodes, 41);
            let owned = owners.iter().filter(|owner| **owner == at).count();
            assert!((400..624).contains(&owned));
            assert_eq!(users.len(), owned);
            let owner = |user: &i64| owners[usize::from(slot_of(&(*user).into()))];
            assert!(users.iter().all(|user| *user > 41 && owner(user) == at));
        }
    }
}
