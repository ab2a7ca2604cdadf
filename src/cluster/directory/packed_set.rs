//! A sorted set in one allocation, for many small entries.

/// Entries in order, in one vector which has an eighth of its length to spare at most.
///
/// A tree and a hash table waste up to half of their memory. An insertion moves what is behind it: of the
/// thousand sessions that a slot has with a million at a gate, 8 KB at most.
#[derive(Debug)]
pub(super) struct PackedSet<T>(Vec<T>);

/// The entries to spare beside an eighth.
const SPARE: usize = 4;

impl<T> Default for PackedSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> PackedSet<T> {
    /// Inserts an entry, if it is not there.
    pub(super) fn insert(&mut self, entry: T) {
        if let Err(at) = self.0.binary_search(&entry) {
            if self.0.len() == self.0.capacity() {
                self.0.reserve_exact(self.0.len() / 8 + SPARE);
            }
            self.0.insert(at, entry);
        }
    }

    pub(super) fn remove(&mut self, entry: &T) {
        let Ok(at) = self.0.binary_search(entry) else {
            return;
        };
        self.0.remove(at);
        let len = self.0.len();
        if self.0.capacity() > len + len / 4 + 2 * SPARE {
            self.0.shrink_to(len + len / 8);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_does_as_a_tree_and_wastes_less() {
        let (mut set, mut tree) = (PackedSet::default(), BTreeSet::new());
        let mut number = 1_u32;
        for step in 0..4_000_u32 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let entry = (number >> 16) % 700;
            // It grows, then shrinks.
            if number >> 30 > step / 2_000 {
                set.insert(entry);
                tree.insert(entry);
            } else {
                set.remove(&entry);
                tree.remove(&entry);
            }
            assert!(set.0.capacity() <= tree.len() + tree.len() / 4 + 2 * SPARE);
            assert_eq!(set.len(), tree.len());
        }
        assert!(set.iter().eq(&tree), "sorted");
        assert!(tree.len() > 10);
    }
}
