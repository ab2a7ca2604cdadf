//! A sorted table of users with one session each, in few bytes.

use std::mem;

use bytes::{Buf, BufMut};
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

use super::entry::Entry;
use crate::session::UserId;

/// The bytes of a block: a change writes one anew, and a search reads one from its beginning.
const BLOCK: usize = 1024;

/// Users in the order of their [keys](Key), in blocks without spare capacity.
///
/// A tree and a hash table waste up to half of their memory, and hold each text in an allocation of its own.
#[derive(Debug, Default)]
pub(super) struct PackedUsers(Vec<Box<[u8]>>);

/// A user as a block has it:
///
/// | user | bytes |
/// |---|---|
/// | a number | 0, the number as a varint |
/// | a text that is a UUID as it is mostly written | 1, its 16 bytes |
/// | another text | 2, the text |
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key<'a>(&'a [u8]);

/// Where a user is, or would be.
struct Found {
    block: usize,
    /// Where its bytes begin in the block.
    at: usize,
    /// Where they end, and its session; `None` if it is not there.
    known: Option<(usize, Entry)>,
}

impl PackedUsers {
    pub(super) fn get(&self, user: &UserId) -> Option<Entry> {
        let (_, entry) = self.find(Key(&key_of(user))).known?;
        Some(entry)
    }

    /// Sets the session of a user to what `change` makes of it; `None` leaves it as it is.
    pub(super) fn update(
        &mut self,
        user: &UserId,
        change: impl FnOnce(Option<Entry>) -> Option<Entry>,
    ) {
        let key = key_of(user);
        let found = self.find(Key(&key));
        if let Some(entry) = change(found.known.map(|(_, entry)| entry)) {
            self.replace(&found, &item(&key, &entry));
        }
    }

    pub(super) fn remove(&mut self, user: &UserId) {
        let found = self.find(Key(&key_of(user)));
        if found.known.is_some() {
            self.replace(&found, &[]);
            self.merge(found.block);
            self.merge(found.block.saturating_sub(1));
            self.0.retain(|block| !block.is_empty());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key<'_>, Entry)> {
        let items = self.0.iter().flat_map(|block| Items(block));
        items.filter_map(|(key, value)| Some((key, decode(value)?)))
    }

    /// The bytes that it takes on the heap.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let blocks = self.0.iter().map(|block| block.len().next_multiple_of(16));
        self.0.capacity() * size_of::<Box<[u8]>>() + blocks.sum::<usize>()
    }

    fn find(&self, key: Key<'_>) -> Found {
        let begins_behind =
            |block: &[u8]| Items(block).next().is_some_and(|(first, _)| first > key);
        let block = self.0.partition_point(|block| !begins_behind(block));
        let block = block.saturating_sub(1);
        let bytes = self.0.get(block).map_or(&[][..], |block| block);
        let mut items = Items(bytes);
        loop {
            let at = bytes.len() - items.0.len();
            let known = match items.next() {
                Some((other, _)) if other < key => continue,
                Some((other, value)) if other == key => decode(value),
                _ => None,
            };
            let end = bytes.len() - items.0.len();
            let known = known.map(|entry| (end, entry));
            return Found { block, at, known };
        }
    }

    /// Writes a block anew, with other bytes for one user.
    fn replace(&mut self, found: &Found, bytes: &[u8]) {
        let Some(block) = self.0.get_mut(found.block) else {
            return self.0.push(bytes.into());
        };
        let end = found.known.map_or(found.at, |(end, _)| end);
        let all = [&block[..found.at], bytes, &block[end..]].concat();
        if all.len() <= BLOCK {
            *block = all.into();
            return;
        }
        // Ids that rise leave full blocks behind.
        let split = match found.at > all.len() * 3 / 4 {
            true => found.at,
            false => all.len() / 2,
        };
        let mut items = Items(&all);
        while all.len() - items.0.len() < split && items.next().is_some() {}
        let (first, second) = all.split_at(all.len() - items.0.len());
        *block = first.into();
        if !second.is_empty() {
            self.0.insert(found.block + 1, second.into());
        }
    }

    /// Makes one of a block and the one behind it, when both have few bytes or one has none.
    fn merge(&mut self, block: usize) {
        let Some([first, second]) = self.0.get_mut(block..block + 2) else {
            return;
        };
        let few = first.len() + second.len() <= BLOCK * 3 / 4;
        if few || first.is_empty() || second.is_empty() {
            *first = [mem::take(first), mem::take(second)].concat().into();
            self.0.remove(block + 1);
        }
    }
}

impl Key<'_> {
    pub(super) fn user(self) -> UserId {
        let mut left = self.0;
        match left.try_get_u8() {
            Ok(0) => UserId::from(decode_varint(&mut left).unwrap_or_default() as i64),
            Ok(1) => UserId::from(uuid_text(left.try_get_u128().unwrap_or_default())),
            _ => UserId::from(&*String::from_utf8_lossy(left)),
        }
    }
}

/// What is left of a block. An item is the length of its key as a varint, the key, the length of the rest in a
/// byte, and the rest.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = (Key<'a>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut left = self.0;
        let length = decode_varint(&mut left).ok()?;
        let (key, mut left) = left.split_at_checked(length as usize)?;
        let length = left.try_get_u8().ok()?;
        let (value, left) = left.split_at_checked(usize::from(length))?;
        self.0 = left;
        Some((Key(key), value))
    }
}

fn key_of(user: &UserId) -> Vec<u8> {
    let (number, text) = UserId::parts(Some(user));
    let mut key = Vec::with_capacity(text.len() + 16);
    if user.number().is_some() {
        key.put_u8(0);
        encode_varint(number as u64, &mut key);
    } else if let Some(uuid) = uuid(text) {
        key.put_u8(1);
        key.put_u128(uuid);
    } else {
        key.put_u8(2);
        key.put_slice(text.as_bytes());
    }
    key
}

fn item(key: &[u8], entry: &Entry) -> Vec<u8> {
    let place = u64::from(entry.gate) << 1 | u64::from(entry.closing);
    let length = encoded_len_varint(place) + encoded_len_varint(entry.claim) + size_of::<i64>();
    let mut item = Vec::with_capacity(key.len() + length + 4);
    encode_varint(key.len() as u64, &mut item);
    item.put_slice(key);
    // At most 28.
    item.put_u8(length as u8);
    encode_varint(place, &mut item);
    encode_varint(entry.claim, &mut item);
    item.put_i64_le(entry.session);
    item
}

fn decode(mut value: &[u8]) -> Option<Entry> {
    let place = decode_varint(&mut value).ok()?;
    Some(Entry {
        gate: (place >> 1) as u32,
        closing: place & 1 == 1,
        claim: decode_varint(&mut value).ok()?,
        session: value.try_get_i64_le().ok()?,
    })
}

/// The number of a UUID, if the text is one in the form of [`uuid_text`].
fn uuid(text: &str) -> Option<u128> {
    // Before anything is allocated for the others.
    if text.len() != 36 || text.as_bytes()[8] != b'-' {
        return None;
    }
    let uuid = u128::from_str_radix(&text.replace('-', ""), 16).ok()?;
    (uuid_text(uuid) == text).then_some(uuid)
}

/// A UUID in lower case, with its four dashes.
fn uuid_text(uuid: u128) -> String {
    let digits = format!("{uuid:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    parts.map(|part| &digits[part]).join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entry(step: u32) -> Entry {
        Entry {
            gate: step % 300,
            session: i64::from(step) - 100,
            claim: u64::from(step) * 1_000,
            closing: step.is_multiple_of(3),
        }
    }

    fn user(number: u32) -> UserId {
        match number % 4 {
            0 => i64::from(number).into(),
            1 => number.to_string().into(),
            2 => format!("{number:08x}-1ad5-4b1c-8cfe-0123456789ab").into(),
            _ => "x".repeat(number as usize % 256).into(),
        }
    }

    #[test]
    fn texts_that_only_look_like_a_uuid_are_kept_as_they_are() {
        let uuid = "019ad5c2-1ad5-4b1c-8cfe-0123456789ab";
        assert_eq!(key_of(&uuid.into()).len(), 17);
        for text in [
            uuid,
            &uuid.to_uppercase(),
            "019ad5c2-1ad5-4b1c-8cfe-0123456789aB",
            "019ad5c2-1ad54-b1c-8cfe-0123456789ab",
            "019ad5c2-1ad5-4b1c-8cfe-0123456789a-",
            "019ad5c2-+ad5-4b1c-8cfe-0123456789ab",
            "+19ad5c2-1ad5-4b1c-8cfe-0123456789ab",
            "019ad5c2-1ad5-4b1c-8cfe-0123456789\u{e9}",
            "00000000-0000-0000-0000-000000000000",
            "0123456\u{e9}-1ad5-4b1c-8cfe-0123456789ab",
        ] {
            let user = UserId::from(text);
            assert_eq!(Key(&key_of(&user)).user(), user);
        }
    }

    #[test]
    fn it_does_as_a_tree_and_wastes_less() {
        let (mut packed, mut tree) = (PackedUsers::default(), BTreeMap::new());
        let mut number = 1_u32;
        for step in 0..8_000_u32 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let user = user((number >> 16) % 900);
            // It grows, then shrinks.
            if number >> 30 > step / 2_000 {
                packed.update(&user, |known| {
                    assert_eq!(known, tree.get(&user).copied());
                    Some(entry(step))
                });
                packed.update(&user, |_| None);
                tree.insert(user.clone(), entry(step));
            } else {
                packed.remove(&user);
                tree.remove(&user);
            }
            assert_eq!(packed.get(&user), tree.get(&user).copied());
            let bytes: usize = packed.0.iter().map(|block| block.len()).sum();
            assert!(packed.0.len() <= 1 + bytes * 8 / BLOCK / 3);
            assert!(
                packed
                    .0
                    .iter()
                    .all(|block| (1..=BLOCK).contains(&block.len()))
            );
        }
        let all: BTreeMap<_, _> = packed
            .iter()
            .map(|(key, entry)| (key.user(), entry))
            .collect();
        assert_eq!(all, tree);
        assert!(packed.iter().map(|(key, _)| key).is_sorted());
        assert_eq!(packed.iter().count(), tree.len());
        assert!(tree.len() > 10);
    }
}
