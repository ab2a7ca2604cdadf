//! JSON to the byte as Go's `encoding/json` writes it, so that a client cannot tell which server it talks to.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

pub(super) fn to_vec<M: Serialize + ?Sized>(message: &M) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(128);
    message.serialize(&mut Serializer::with_formatter(&mut out, GoFormatter))?;
    Ok(out)
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_f32<W: Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        write_float(writer, f64::from(value.abs()), format_args!("{value}"), format_args!("{value:e}"))
    }

    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        write_float(writer, value.abs(), format_args!("{value}"), format_args!("{value:e}"))
    }

    /// Go escapes what HTML or JavaScript would take for its own.
    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let Some(c) = special.chars().next() else { break };
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = &special[c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Plain digits in Go's range for them, else an exponent with its sign.
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
