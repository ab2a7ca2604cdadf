//! What is printed: responses and pushes to the standard output, notices to the standard error.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    duration,
    table::{json_text, printable},
};

/// The longest binary body that is printed, in bytes.
const MAX_BINARY: usize = 256;

/// Prints a text above the line that is edited.
pub(super) type Above = Box<dyn FnMut(String) + Send>;

/// Prints whole lines. A clone prints to the same place.
#[derive(Clone)]
pub(super) struct Output {
    json: bool,
    above: Option<Arc<Mutex<Above>>>,
}

impl Output {
    pub(super) fn plain(json: bool) -> Self {
        Self { json, above: None }
    }

    #[cfg(unix)]
    pub(super) fn above(json: bool, above: Above) -> Self {
        let above = Some(Arc::new(Mutex::new(above)));
        Self { json, above }
    }

    pub(super) fn response(&self, route: &str, body: &[u8], took: Duration) {
        if self.json {
            let ms = took.as_secs_f64() * 1e3;
            let line = json!({"response": route, "body": as_json(body), "ms": ms});
            return self.line(&json_text(&line));
        }
        match self.above {
            Some(_) => {
                let took = duration::latency(took.as_secs_f64());
                self.line(&format!("{}  ({took})", text(body)));
            }
            None => self.line(&text(body)),
        }
    }

    pub(super) fn push(&self, route: &str, body: &[u8]) {
        match self.json {
            true => self.line(&json_text(&json!({"push": route, "body": as_json(body)}))),
            false => self.line(&format!("{} {}", printable(route), text(body))),
        }
    }

    /// A line of the results.
    pub(super) fn line(&self, line: &str) {
        match &self.above {
            Some(above) => above.lock()(format!("{line}\n")),
            // A reader that has left misses nothing; the script's end is what counts.
            None => drop(writeln!(io::stdout().lock(), "{line}")),
        }
    }

    /// A line for people.
    pub(super) fn notice(&self, line: &str) {
        let line = printable(line);
        match &self.above {
            Some(above) => above.lock()(format!("{line}\n")),
            None => eprintln!("nano: {line}"),
        }
    }
}

/// A body as text, or its bytes.
fn text(body: &[u8]) -> String {
    match str::from_utf8(body) {
        Ok(text) => printable(text),
        Err(_) => {
            let mut text = "0x".to_owned();
            for byte in &body[..body.len().min(MAX_BINARY)] {
                // Writing to a string does not fail.
                let _ = write!(text, "{byte:02x}");
            }
            if body.len() > MAX_BINARY {
                let _ = write!(text, "... ({} bytes)", body.len());
            }
            text
        }
    }
}

fn as_json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(text(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_printed_as_text_or_as_bytes() {
        assert_eq!(text(b"{\"a\":\"\x1b\"}"), "{\"a\":\"\\u{1b}\"}");
        assert_eq!(text(&[0xff, 0x00, 0x61]), "0xff0061");
        assert_eq!(
            text(&[0xff; 1000]).len(),
            2 + 2 * MAX_BINARY + "... (1000 bytes)".len()
        );
        assert_eq!(as_json(b"{\"a\":1}"), json!({"a": 1}));
        assert_eq!(as_json(b"hello"), json!("hello"));
    }
}
