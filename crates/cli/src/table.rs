//! Tables and numbers for people.

use std::{
    fmt::Write,
    io::{self, Write as _},
};

use serde_json::Value;

/// Rows under a head. Columns are as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    head: &'static [Column],
    rows: Vec<Vec<String>>,
}

/// The head of a column. Numbers stand at its right.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column {
    Text(&'static str),
    Number(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Self::Text(title) | Self::Number(title) => title,
        }
    }
}

impl Table {
    pub(crate) fn new(head: &'static [Column]) -> Self {
        Self {
            head,
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| printable(&cell));
        self.rows.push(cells.collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The head and the rows, without spaces at their ends.
    pub(crate) fn lines(&self) -> Vec<String> {
        let titles = self.head.iter().map(|column| column.title().to_owned());
        let all: Vec<Vec<String>> = std::iter::once(titles.collect())
            .chain(self.rows.iter().cloned())
            .collect();
        let width = |column: usize| {
            let cells = all.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for ((cell, column), width) in row.iter().zip(self.head).zip(&widths) {
                // Writing to a string does not fail.
                let _ = match column {
                    Column::Text(_) => write!(line, "{cell:<width$}  "),
                    Column::Number(_) => write!(line, "{cell:>width$}  "),
                };
            }
            line.trim_end().to_owned()
        };
        all.iter().map(line).collect()
    }

    /// # Errors
    /// Of the standard output.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for line in self.lines() {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

/// Prints a line on the standard output.
///
/// # Errors
/// Of the standard output.
pub(crate) fn print(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Prints JSON on the standard output, as [`json_text`].
///
/// # Errors
/// Of the standard output.
pub(crate) fn print_json(value: &Value) -> io::Result<()> {
    print(&json_text(value))
}

/// JSON on one line, with the letters escaped that a terminal obeys.
pub(crate) fn json_text(value: &Value) -> String {
    let mut escaped = String::new();
    // Outside of strings JSON has none of them, and in strings all have an escape.
    for letter in value.to_string().chars() {
        match is_obeyed(letter) {
            true => escaped.extend(format!("\\u{:04x}", u32::from(letter)).chars()),
            false => escaped.push(letter),
        }
    }
    escaped
}

/// Replaces what would move the cursor or change colours: text of players and other nodes is shown
/// on a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_obeyed(letter) {
            true => printable.extend(letter.escape_default()),
            false => printable.push(letter),
        }
    }
    printable
}

/// Whether a terminal obeys a letter: control characters, ends of lines, changes of the direction. All
/// have four hexadecimal digits.
fn is_obeyed(letter: char) -> bool {
    let layout = matches!(
        letter,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    letter.is_control() || layout
}

/// Text as it is, nothing for null, and everything else as JSON.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A whole number with separators: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 session`, `2 sessions`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {thing}{end}", count(number))
}

/// Bytes in their largest unit: `1.5 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    let mut rest = number as f64;
    for unit in ["B", "KiB", "MiB"] {
        if rest < 1024.0 {
            return match unit {
                "B" => format!("{number} B"),
                _ => format!("{rest:.1} {unit}"),
            };
        }
        rest /= 1024.0;
    }
    format!("{rest:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[Column::Text("NAME"), Column::Number("N"), Column::Text("X")]);
        table.row(["ä", "1", ""].map(str::to_owned));
        table.row(["beta", "1,000", "x"].map(str::to_owned));
        let expected = ["NAME      N  X", "ä         1", "beta  1,000  x"];
        assert_eq!(table.lines(), expected);
    }

    #[test]
    fn text_of_others_cannot_control_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\r\n\u{202e}ü"),
            "a\\u{1b}[2Jb\\r\\n\\u{202e}ü"
        );
        let obeyed: String = (0..=0x10_ffff)
            .filter_map(char::from_u32)
            .filter(|letter| is_obeyed(*letter))
            .collect();
        for letter in [
            '\0', '\x07', '\x1b', '\x7f', '\u{80}', '\u{9b}', '\u{9d}', '\u{61c}', '\u{2028}',
            '\u{202e}', '\u{2066}',
        ] {
            assert!(obeyed.contains(letter), "{letter:?}");
        }
        assert!(!printable(&obeyed).contains(is_obeyed));
        let value = serde_json::json!({ "label": obeyed, &*obeyed: 7 });
        let json = json_text(&value);
        assert!(!json.contains(is_obeyed), "{json}");
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value);
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0, 1, 1000].map(|number| counted(number, "session")),
            ["0 sessions", "1 session", "1,000 sessions"]
        );
        assert_eq!(
            [0, 1023, 1536, 5 << 40].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "5120.0 GiB"]
        );
    }
}
