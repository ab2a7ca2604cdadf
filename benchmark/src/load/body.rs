//! Bodies that carry their sender: a connection and a number, in sixteen hexadecimal digits, inside
//! bytes that never change.

/// Length of a stamp in bytes; no body is shorter.
pub(crate) const STAMP: usize = 16;

/// The sender of a message, and the number of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) from: u32,
    pub(crate) seq: u32,
}

impl Stamp {
    pub(crate) fn encode(self) -> [u8; STAMP] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = u64::from(self.from) << 32 | u64::from(self.seq);
        std::array::from_fn(|index| DIGITS[(number >> (60 - 4 * index) & 0xF) as usize])
    }

    fn decode(digits: &[u8]) -> Option<Self> {
        let number = digits
            .iter()
            .try_fold(0, |number: u64, digit| match digit {
                b'0'..=b'9' => Some(number << 4 | u64::from(digit - b'0')),
                b'a'..=b'f' => Some(number << 4 | u64::from(digit - b'a' + 10)),
                _ => None,
            })?;
        Some(Self {
            from: (number >> 32) as u32,
            seq: number as u32,
        })
    }
}

/// What stands around the stamp.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Template {
    /// `size` bytes without meaning.
    pub(crate) fn raw(size: usize) -> Self {
        Self {
            before: Vec::new(),
            after: vec![b'x'; size.saturating_sub(STAMP)],
        }
    }

    /// `size` bytes of JSON: an object with one string.
    pub(crate) fn json(size: usize) -> Self {
        let (before, end) = (br#"{"content":""#.to_vec(), br#""}"#);
        let mut after = vec![b'x'; size.saturating_sub(before.len() + STAMP + end.len())];
        after.extend_from_slice(end);
        Self { before, after }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.before.len() + STAMP + self.after.len()
    }

    pub(crate) fn parts<'a>(&'a self, stamp: &'a [u8; STAMP]) -> [&'a [u8]; 3] {
        [&self.before, stamp, &self.after]
    }

    /// The stamp, if every byte around it is as it was sent.
    pub(crate) fn verify(&self, body: &[u8]) -> Option<Stamp> {
        let rest = body.strip_prefix(&self.before[..])?;
        let (stamp, after) = rest.split_at_checked(STAMP)?;
        (after == self.after)
            .then(|| Stamp::decode(stamp))
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_was_sent_is_recognised_and_nothing_else() {
        for template in [Template::raw(64), Template::json(1024)] {
            let stamp = Stamp {
                from: 0xABCD,
                seq: 77,
            };
            let body = template.parts(&stamp.encode()).concat();
            assert_eq!(body.len(), template.len());
            assert_eq!(template.verify(&body), Some(stamp));
            assert_eq!(template.verify(&body[1..]), None);
            let mut other = body.clone();
            *other.last_mut().unwrap() ^= 1;
            assert_eq!(template.verify(&other), None);
        }
        assert_eq!(Template::raw(64).len(), 64);
        assert_eq!(Template::json(1024).len(), 1024);
    }
}
