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

    /// Compares in constant time.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Writes the token of a session.
pub(super) fn encode(session: i64, secret: &Secret) -> String {
    let mut token = format!("{session:x}-");
    for byte in secret.0 {
        // Writing to a string does not fail.
        let _ = write!(token, "{byte:02x}");
    }
    token
}

/// Reads a token; `None` if it has another form.
pub(super) fn decode(token: &str) -> Option<(i64, Secret)> {
    let (session, digits) = token.split_once('-')?;
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
        let token = encode(77, &secret);
        let (session, read) = decode(&token).unwrap();
        assert!(session == 77 && read.is(&secret));
        assert!(!read.is(&Secret::random().unwrap()));
        let cut = &token[..token.len() - 1];
        for other in [
            "",
            "-",
            "4d",
            "4d-",
            cut,
            &format!("{token}0"),
            "4d-é",
            &token.replace('-', ""),
        ] {
            assert!(decode(other).is_none(), "{other}");
        }
    }
}
