//! A sorted map in one allocation, for many small entries.

/// Entries sorted by key, in one vector which has an eighth of its length to spare at most.
///
/// A tree and a hash table waste up to half of their memory. An insertion moves what is behind it: of the
/// thousand users that a slot has in a cluster of a million, 40 KB at most.
#[derive(Debug)]
pub(super) struct PackedMap<K, V>(Vec<(K, V)>);

/// The entries to spare beside an eighth.
const SPARE: usize = 4;

impl<K, V> Default for PackedMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> PackedMap<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let at = self.find(key).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// Sets the value of a key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(self.0.len() / 8 + SPARE);
                }
                self.0.insert(at, (key, value));
            }
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        let Ok(at) = self.find(key) else { return };
        self.0.remove(at);
        let len = self.0.len();
        if self.0.capacity() > len + len / 4 + 2 * SPARE {
            self.0.shrink_to(len + len / 8);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The bytes that it takes on the heap.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(K, V)>()
    }

    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_does_as_a_tree_and_wastes_less() {
        let (mut map, mut tree) = (PackedMap::default(), BTreeMap::new());
        let mut number = 1_u32;
        for step in 0..4_000_u32 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = (number >> 16) % 700;
            // It grows, then shrinks.
            if number >> 30 > step / 2_000 {
                map.insert(key, step);
                tree.insert(key, step);
            } else {
                map.remove(&key);
                tree.remove(&key);
            }
            assert_eq!(map.get(&key), tree.get(&key));
            assert_eq!(map.get_mut(&(key / 2)), tree.get_mut(&(key / 2)));
            assert!(map.0.capacity() <= tree.len() + tree.len() / 4 + 2 * SPARE);
        }
        assert!(map.iter().eq(&tree), "sorted");
        assert!(map.keys().eq(tree.keys()));
        assert!(map.values().eq(tree.values()));
        assert!(tree.len() > 10);
    }
}
