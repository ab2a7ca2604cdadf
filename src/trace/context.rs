//! The identity of a span, as W3C Trace Context writes it. Pure.

use std::{fmt, sync::Arc};

/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// The flag of a span that is recorded.
const SAMPLED: u8 = 1;

/// The longest `tracestate` that is passed on, and the most entries, as the specification has it.
const MAX_STATE: usize = 512;
const MAX_ENTRIES: usize = 32;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A span of a trace, as other programs refer to it: the headers `traceparent` and `tracestate` of
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/).
///
/// [`Display`](fmt::Display) writes the `traceparent`:
///
/// ```
/// use nano::trace::TraceContext;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context = TraceContext::parse(header, None).unwrap();
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), header);
/// assert_eq!(TraceContext::parse("00-0-0-01", None), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    sampled: bool,
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// A span by its ids. `None` if one of them is all zeros, which no span has.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<Self> {
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self {
            trace_id,
            span_id,
            sampled,
            state: None,
        })
    }

    /// Reads a `traceparent`, and the `tracestate` beside it. `None` if the first is not valid; a
    /// second one that is not valid is left out.
    ///
    /// Of versions after 00 the parts that 00 has are read, as the specification asks.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        let (version, trace_id, span_id) = (
            hex(bytes.get(..2)?)?,
            hex(bytes.get(3..35)?)?,
            hex(bytes.get(36..52)?)?,
        );
        let [flags] = hex(bytes.get(53..LENGTH)?)?;
        let dashes = [2, 35, 52].into_iter().all(|at| bytes[at] == b'-');
        let ends = match version {
            [0xFF] => false,
            [0] => bytes.len() == LENGTH,
            [_] => bytes.get(LENGTH).is_none_or(|byte| *byte == b'-'),
        };
        let context = Self::new(trace_id, span_id, flags & SAMPLED != 0)?;
        (dashes && ends).then(|| context.with_state(tracestate.unwrap_or_default()))
    }

    /// The same span with a `tracestate`; without one if it is empty or not valid.
    #[must_use]
    pub fn with_state(self, tracestate: &str) -> Self {
        let state = is_state(tracestate).then(|| tracestate.into());
        Self { state, ..self }
    }

    /// A sampled span by ids that are not all zeros.
    pub(super) fn of_ids(trace_id: [u8; 16], span_id: [u8; 8]) -> Self {
        Self {
            trace_id,
            span_id,
            sampled: true,
            state: None,
        }
    }

    /// Another span of the same trace, which is sampled.
    pub(super) fn child(&self, span_id: [u8; 8]) -> Self {
        Self {
            span_id,
            sampled: true,
            ..self.clone()
        }
    }

    /// The id that all spans of the trace share.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the span.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Whether the span is recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// What tracing systems added to the trace, as the header has it.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// Writes the `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (Hex(self.trace_id), Hex(self.span_id));
        write!(f, "00-{trace}-{span}-{:02x}", u8::from(self.sampled))
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceContext")
            .field("traceparent", &format_args!("{self}"))
            .field("tracestate", &self.state)
            .finish()
    }
}

/// At most 16 bytes as lower-case hexadecimal digits.
pub(super) struct Hex<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(&self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xF)];
        }
        let digits = str::from_utf8(&digits[..2 * N]);
        f.write_str(digits.map_err(|_| fmt::Error)?)
    }
}

/// Reads lower-case hexadecimal digits; the specification allows no others.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Whether this is a list of `key=value`, in the characters the specification allows.
fn is_state(text: &str) -> bool {
    let is_entry = |entry: &str| {
        let Some((key, value)) = entry.trim_matches([' ', '\t']).split_once('=') else {
            return entry.trim_matches([' ', '\t']).is_empty();
        };
        let is_key = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte)
        };
        let is_value = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'=';
        !key.is_empty()
            && key.len() <= 256
            && key.bytes().all(is_key)
            && !value.is_empty()
            && value.len() <= 256
            && value.bytes().all(is_value)
    };
    text.len() <= MAX_STATE
        && text.contains('=')
        && text.split(',').count() <= MAX_ENTRIES
        && text.split(',').all(is_entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parsed(traceparent: &str) -> Option<String> {
        TraceContext::parse(traceparent, None).map(|context| context.to_string())
    }

    #[test]
    fn a_valid_traceparent_is_read_and_written() {
        assert_eq!(parsed(VALID).as_deref(), Some(VALID));
        let other = VALID.replace("-01", "-00");
        assert_eq!(parsed(&other), Some(other));
        // Flags that are not known are not passed on.
        assert_eq!(parsed(&VALID.replace("-01", "-ff")).as_deref(), Some(VALID));
    }

    #[test]
    fn later_versions_may_have_more_fields() {
        for text in [
            VALID.replacen("00", "01", 1),
            format!("cc{}-what-else", &VALID[2..]),
        ] {
            assert_eq!(parsed(&text).as_deref(), Some(VALID), "{text}");
        }
        assert_eq!(parsed(&format!("01{}x", &VALID[2..])), None);
    }

    #[test]
    fn an_invalid_traceparent_is_ignored() {
        for text in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        let bytes: Vec<_> = VALID.chars().collect();
        for at in 0..bytes.len() {
            for other in ['\0', 'g', '-', 'é', '\u{10FFFF}', ' ', 'F', '0'] {
                let mut text = bytes.clone();
                text[at] = other;
                let text: String = text.into_iter().collect();
                if let Some(context) = TraceContext::parse(&text, Some(&text)) {
                    let again = TraceContext::parse(&context.to_string(), None);
                    assert_eq!(again.map(|it| it.trace_id()), Some(context.trace_id()));
                }
            }
            let cut: String = bytes[..at].iter().collect();
            assert_eq!(parsed(&cut), None);
        }
    }

    #[test]
    fn a_tracestate_is_passed_on_if_it_is_valid() {
        let state = |text: &str| {
            let context = TraceContext::parse(VALID, Some(text)).unwrap();
            context.tracestate().map(str::to_owned)
        };
        for text in [
            "rojo=00f067aa0ba902b7,congo=t61",
            "a@b=c, d=e f",
            "a=b,,c=d",
        ] {
            assert_eq!(state(text).as_deref(), Some(text));
        }
        let long = format!("a={}", "b".repeat(511));
        let many = ["a=b"; 33].join(",");
        for text in [
            "", "a", "A=b", "a=b=c", "a=", "=b", "a=b\nc", "a=é", &long, &many,
        ] {
            assert_eq!(state(text), None, "{text}");
        }
    }
}
