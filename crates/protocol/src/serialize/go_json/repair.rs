//! Repairs text that is almost JSON, as Go reads it.

use std::{char, str};

/// A character that stands for one that cannot be read, as an escape.
const REPLACEMENT: &str = "\\ufffd";

/// Repairs bytes that are not UTF-8, and escapes that are half of a surrogate pair. JavaScript writes
/// the latter for a text that was cut inside a character.
pub(crate) fn repair(bytes: &[u8]) -> String {
    repair_escapes(repair_bytes(bytes))
}

/// Replaces each escaped surrogate that is not part of a pair. A backslash occurs inside strings
/// only; outside of them the text is no JSON anyway.
fn repair_escapes(text: String) -> String {
    let mut repaired = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        let escape = at + found;
        let next = match unit(&text[escape..]) {
            Some(0xD800..=0xDBFF) => {
                if let Some(0xDC00..=0xDFFF) = text.get(escape + 6..).and_then(unit) {
                    at = escape + 12;
                    continue;
                }
                Some(escape + 6)
            }
            Some(0xDC00..=0xDFFF) => Some(escape + 6),
            _ => None,
        };
        if let Some(next) = next {
            repaired.push_str(&text[copied..escape]);
            repaired.push_str(REPLACEMENT);
            copied = next;
            at = next;
        } else {
            // Past the backslash and what it escapes, which may be another backslash.
            let escaped = text[escape + 1..].chars().next();
            at = escape + 1 + escaped.map_or(0, char::len_utf8);
        }
    }
    if copied == 0 {
        return text;
    }
    repaired.push_str(&text[copied..]);
    repaired
}

/// The UTF-16 unit of an escape such as `\ud83d` at the beginning of a text.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    all_hex.then(|| u16::from_str_radix(digits, 16).ok())?
}

/// Repairs text that is almost UTF-8. Pomelo clients write a character beyond the basic plane as two
/// surrogates of three bytes each (CESU-8); a pair becomes its character. Any other invalid byte
/// becomes U+FFFD, as in Go.
fn repair_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        match str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return text;
            }
            Err(error) => {
                let (valid, bad) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                let (c, len) = surrogates(bad).map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, 6));
                text.push(c);
                rest = &bad[len..];
            }
        }
    }
}

/// Decodes a pair of surrogates, each in the form of a three-byte character.
fn surrogates(bytes: &[u8]) -> Option<char> {
    let &[
        0xED,
        high @ 0xA0..=0xAF,
        low @ 0x80..=0xBF,
        0xED,
        next @ 0xB0..=0xBF,
        last @ 0x80..=0xBF,
        ..,
    ] = bytes
    else {
        return None;
    };
    let bits = |byte: u8| u32::from(byte & 0x3F);
    let (lead, trail) = (
        (bits(high) & 0xF) << 6 | bits(low),
        (bits(next) & 0xF) << 6 | bits(last),
    );
    char::from_u32(0x1_0000 + (lead << 10 | trail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_surrogate_pairs_are_replaced() {
        for (text, repaired) in [
            (r#""ab\ud83d""#, r#""ab\ufffd""#),
            (r#""\ude00b""#, r#""\ufffdb""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83dA\ud83d\n""#, r#""\ufffdA\ufffd\n""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\uD83D\uDE00""#, r#""\uD83D\uDE00""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#""\ud83""#, r#""\ud83""#),
            (r"\", r"\"),
            (r#""\u+123\é""#, r#""\u+123\é""#),
        ] {
            assert_eq!(repair(text.as_bytes()), repaired);
        }
    }
}
