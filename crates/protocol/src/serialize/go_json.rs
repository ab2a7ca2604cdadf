//! JSON byte for byte as Go's `encoding/json` writes it, decoded as tolerantly. A client cannot tell
//! which server it talks to.

use std::{
    char,
    io::{self, Write},
    str,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::ser::{Formatter, Serializer};

pub(super) fn to_vec<M: Serialize + ?Sized>(message: &M) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(128);
    message.serialize(&mut Serializer::with_formatter(&mut out, GoFormatter))?;
    Ok(out)
}

pub(super) fn from_slice<M: DeserializeOwned>(json: &[u8]) -> serde_json::Result<M> {
    serde_json::from_slice(json).or_else(|error| match str::from_utf8(json) {
        Ok(_) => Err(error),
        Err(_) => serde_json::from_str(&repair(json)),
    })
}

/// Repairs text that is almost UTF-8. Pomelo clients write a character beyond the basic plane as two
/// surrogates of three bytes each (CESU-8); a pair becomes its character. Any other invalid byte
/// becomes U+FFFD, as in Go.
fn repair(bytes: &[u8]) -> String {
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

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_f32<W: Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        write_float(
            writer,
            f64::from(value.abs()),
            format_args!("{value}"),
            format_args!("{value:e}"),
        )
    }

    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        write_float(
            writer,
            value.abs(),
            format_args!("{value}"),
            format_args!("{value:e}"),
        )
    }

    /// Go escapes the characters that are special in HTML and JavaScript.
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let Some(c) = special.chars().next() else {
                break;
            };
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = &special[c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Plain digits in the range where Go uses them, else an exponent with a sign.
fn write_float<W: Write + ?Sized>(
    writer: &mut W,
    magnitude: f64,
    plain: std::fmt::Arguments<'_>,
    exponent: std::fmt::Arguments<'_>,
) -> io::Result<()> {
    if magnitude == 0.0 || (1e-6..1e21).contains(&magnitude) {
        return writer.write_fmt(plain);
    }
    let text = exponent.to_string();
    match text.split_once('e') {
        Some((digits, power)) if !power.starts_with('-') => write!(writer, "{digits}e+{power}"),
        _ => writer.write_all(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &[u8]) -> Option<String> {
        from_slice(json).ok()
    }

    #[test]
    fn surrogates_of_old_clients_become_the_character_they_mean() {
        assert_eq!(
            read(b"\"a\xED\xA0\xBD\xED\xB8\x80b\"").as_deref(),
            Some("a\u{1F600}b")
        );
        assert_eq!(
            read("\"a\u{1F600}b\"".as_bytes()).as_deref(),
            Some("a\u{1F600}b")
        );
        // The first and the last character that need two.
        assert_eq!(
            read(b"\"\xED\xA0\x80\xED\xB0\x80\"").as_deref(),
            Some("\u{10000}")
        );
        assert_eq!(
            read(b"\"\xED\xAF\xBF\xED\xBF\xBF\"").as_deref(),
            Some("\u{10FFFF}")
        );
    }

    #[test]
    fn other_bytes_that_are_not_utf8_are_replaced_as_in_go() {
        assert_eq!(
            read(b"\"\xFFx\xED\xA0\xBD\"").as_deref(),
            Some("\u{FFFD}x\u{FFFD}\u{FFFD}\u{FFFD}")
        );
        assert_eq!(
            read(b"\"\xED\xA0\xBD\xED\xA0\xBD\"").as_deref(),
            Some("\u{FFFD}".repeat(6).as_str())
        );
        assert_eq!(read(b"\xFF"), None);
        assert_eq!(read(b"{"), None);
    }
}
