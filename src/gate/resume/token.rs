//! Tokens: the id of a session and a secret.

use std::fmt::Write as _;

use rand::{TryRng, rngs::SysRng};
use subtle::ConstantTimeEq;

/// What makes a token hard to guess: 128 bits of the operating system's random numbers.
#[derive(Clone, Copy)]
pub(in crate::gate) struct Secret([u8; 16]);

impl Secret {
    /// Creates a secret; `None` if the operating system has no random numbers.
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        SysRng.try_fill_bytes(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Reads the bytes of one; `None` if they are not 16.
    pub(in crate::gate) fn of(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(in crate::gate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Compares in constant time.
    pub(in crate::gate) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Writes the token of a session. `node` is the incarnation of the node that holds it; 0 on a
/// standalone node.
pub(super) fn encode(session: i64, secret: &Secret, node: u64) -> String {
    let mut token = format!("{session:x}-");
    for byte in secret.0 {
        // Writing to a string does not fail.
        let _ = write!(token, "{byte:02x}");
    }
    if node > 0 {
        let _ = write!(token, "-{node:x}");
    }
    token
}

/// The incarnation of the node that holds the session of a token; `None` if it names none.
pub(in crate::gate) fn node(token: &str) -> Option<u64> {
    let (_, rest) = token.split_once('-')?;
    u64::from_str_radix(rest.split_once('-')?.1, 16).ok()
}

/// Reads a token; `None` if it has another form.
pub(super) fn decode(token: &str) -> Option<(i64, Secret)> {
    let (session, rest) = token.split_once('-')?;
    let (digits, node) = match rest.split_once('-') {
        Some((digits, node)) => (digits, Some(node)),
        None => (rest, None),
    };
    if node.is_some_and(|node| u64::from_str_radix(node, 16).is_err()) {
        return None;
    }
    let session = i64::from_str_radix(session, 16).ok()?;
    let mut secret = [0; 16];
    if digits.len() != 2 * secret.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some((session, Secret(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_others_are_none() {
        let secret = Secret::random().unwrap();
        let named = encode(77, &secret, 0xab);
        let token = encode(77, &secret, 0);
        for (token, of) in [(&token, None), (&named, Some(0xab))] {
            let (session, read) = decode(token).unwrap();
            assert!(session == 77 && read.is(&secret));
            assert!(!read.is(&Secret::random().unwrap()));
            assert_eq!(node(token), of);
        }
        let cut = &token[..token.len() - 1];
        for other in [
            "",
            "-",
            "4d",
            "4d-",
            cut,
            &format!("{token}0"),
            &format!("{token}-"),
            &format!("{token}-x"),
            &format!("{named}-1"),
            "4d-é",
            &token.replace('-', ""),
        ] {
            assert!(decode(other).is_none(), "{other}");
        }
    }
}
