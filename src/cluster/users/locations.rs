//! Where users that have one session were found last. No I/O.

use std::{collections::HashMap, mem, sync::Arc};

use crate::session::UserId;

/// The most users in one generation.
const GENERATION: usize = 32 * 1024;

/// A session of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) gate: Arc<str>,
    pub(super) session: i64,
}

/// The locations that were used last, up to twice 32,768. A location may be out of date: its gate
/// says so, and it is [forgotten](Locations::forget).
///
/// Two generations: when the young one is full, it becomes the old one, and what was in the old one
/// and not used since is dropped.
#[derive(Default)]
pub(super) struct Locations {
    young: HashMap<UserId, Place>,
    old: HashMap<UserId, Place>,
}

impl Locations {
    pub(super) fn get(&mut self, user: &UserId) -> Option<Place> {
        if let Some(place) = self.young.get(user) {
            return Some(place.clone());
        }
        let place = self.old.remove(user)?;
        self.insert(user.clone(), place.clone());
        Some(place)
    }

    pub(super) fn insert(&mut self, user: UserId, place: Place) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(user, place);
    }

    pub(super) fn forget(&mut self, user: &UserId) {
        self.young.remove(user);
        self.old.remove(user);
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(session: i64) -> Place {
        let gate = "a:1".into();
        Place { gate, session }
    }

    #[test]
    fn locations_are_bounded_and_those_in_use_stay() {
        let mut locations = Locations::default();
        for number in 1..=10 * GENERATION as i64 {
            locations.insert(number.into(), place(number));
            assert_eq!(locations.get(&1.into()), Some(place(1)), "{number}");
        }
        assert!(locations.len() <= 2 * GENERATION + 1);
        let last = 10 * GENERATION as i64;
        assert_eq!(locations.get(&last.into()), Some(place(last)));
        assert_eq!(locations.get(&2.into()), None);
        locations.forget(&1.into());
        assert_eq!(locations.get(&1.into()), None);
    }
}
