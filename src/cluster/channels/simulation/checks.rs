//! What must hold at the end, when no fault has happened for a while.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{CHANNELS, World, channel_name};

impl World {
    /// Checks that the owner of each channel, and no other node, has the gates with members, and that
    /// they know the sessions of theirs.
    fn check_gates(&self) {
        for node in self.nodes.iter().filter(|node| node.alive) {
            let names = (0..CHANNELS).map(channel_name);
            let members = names.map(|name| node.gate.members(&name).len());
            assert_eq!(members.sum::<usize>(), node.gate.memberships());
        }
        for channel in 0..CHANNELS {
            let name = channel_name(channel);
            let mut members = BTreeMap::<_, BTreeSet<_>>::new();
            for (member, seen) in &self.oracle.sessions {
                if *seen.channel == *name && seen.joined {
                    let gate = self.nodes[seen.node].address.clone();
                    members.entry(gate).or_default().insert(*member);
                }
            }
            for node in &self.nodes {
                let owns = node.view.owner(&name) == Some(&node.address);
                let gates = node.owner.gates(&name).cloned().unwrap_or_default();
                let expected = if owns {
                    members.keys().cloned().collect()
                } else {
                    BTreeSet::new()
                };
                assert_eq!(gates, expected, "{name} at {}", node.address);
                let here = node.gate.members(&name).iter().copied().collect();
                let expected = members.get(&node.address).cloned().unwrap_or_default();
                assert_eq!(expected, here, "members of {name} at {}", node.address);
            }
        }
    }

    /// Checks that all members got what was published when all was calm.
    pub(super) fn check_settled(&mut self) {
        self.check_gates();
        for (channel, published) in &self.settled {
            let name = channel_name(*channel);
            for (member, seen) in &self.oracle.sessions {
                if *seen.channel == *name && seen.joined {
                    let got: BTreeSet<_> = seen.received.iter().map(|(_, it)| *it).collect();
                    let lost: Vec<_> = published.difference(&got).collect();
                    assert!(lost.is_empty(), "session {member} never got {lost:?}");
                }
            }
            assert!(published.len() > 20, "too little was published");
        }
    }
}
