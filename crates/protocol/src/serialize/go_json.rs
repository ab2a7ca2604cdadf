//! JSON byte for byte as Go's `encoding/json` writes it, decoded as tolerantly. A client cannot tell
//! which server it talks to.

use std::{
    cell::Cell,
    fmt,
    io::{self, Write},
};

use serde::{Serialize, de::DeserializeOwned, ser::Error as _};
use serde_json::ser::{Formatter, Serializer};

mod checked;
mod finite;
mod fold;
mod lenient;
mod repair;

pub(crate) use repair::repair;

/// Encodes a message.
///
/// # Errors
/// As in Go, a number that is not finite is an error: JSON has no form for it.
pub(super) fn to_vec<M: Serialize + ?Sized>(message: &M) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(128);
    let null = Cell::new(false);
    let formatter = GoFormatter { null: &null };
    message.serialize(&mut Serializer::with_formatter(&mut out, formatter))?;
    // serde_json writes null for NaN and for infinities, so only then is there something to check.
    if null.get()
        && let Err(fault) = message.serialize(finite::FiniteNumbers)
    {
        return Err(serde_json::Error::custom(fault));
    }
    Ok(out)
}

/// Decodes a message.
///
/// Valid JSON whose keys are the names of fields is read once. Everything else that Go's decoder
/// takes is read again, slowly: see [`lenient`].
///
/// # Errors
/// That of the first reading, unless it came to an end.
pub(super) fn from_slice<M: DeserializeOwned>(json: &[u8]) -> serde_json::Result<M> {
    let folded = Cell::new(false);
    let mut input = serde_json::Deserializer::from_slice(json);
    let first = M::deserialize(checked::Checked::new(&mut input, &folded))
        .and_then(|message| input.end().map(|()| message));
    match first {
        Ok(message) if !folded.get() => Ok(message),
        Ok(_) => read_again(json),
        Err(error) => read_again(json).map_err(|_| error),
    }
}

#[cold]
fn read_again<M: DeserializeOwned>(json: &[u8]) -> serde_json::Result<M> {
    lenient::from_str(&repair(json))
}

struct GoFormatter<'a> {
    /// Set when a null has been written.
    null: &'a Cell<bool>,
}

impl Formatter for GoFormatter<'_> {
    fn write_null<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.null.set(true);
        writer.write_all(b"null")
    }

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
    plain: fmt::Arguments<'_>,
    exponent: fmt::Arguments<'_>,
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
mod tests;
