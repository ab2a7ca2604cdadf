//! The terminal: one picture at a time.

use std::{
    env,
    io::{self, Write},
};

use super::view::{Line, Style};
use crate::terminal::{self, Silence};

/// What is drawn on. The terminal gets its former content back when this is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    /// Whether pictures replace each other; otherwise they follow each other as plain text.
    terminal: bool,
    colours: bool,
    /// Typed keys would be written into the picture.
    _silence: Option<Silence>,
}

/// The size that is assumed where the system names none.
const COLUMNS: usize = 120;
const ROWS: usize = 50;

impl Screen {
    /// # Errors
    /// Of the standard output.
    pub(super) fn open(terminal: bool) -> io::Result<Self> {
        if terminal {
            // The alternate screen, without a cursor.
            print_now("\x1b[?1049h\x1b[?25l")?;
        }
        let colours = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            terminal,
            colours,
            _silence: terminal.then(Silence::begin).flatten(),
        })
    }

    /// How many lines a picture may have.
    pub(super) fn rows(&self) -> usize {
        self.size().1
    }

    /// Replaces the picture.
    ///
    /// # Errors
    /// Of the standard output.
    pub(super) fn show(&self, lines: &[Line]) -> io::Result<()> {
        let (columns, rows) = self.size();
        let mut picture = String::new();
        if self.terminal {
            picture.push_str("\x1b[H");
        }
        for (at, line) in lines.iter().take(rows).enumerate() {
            let text: String = line.text.chars().take(columns).collect();
            let code = match line.style {
                Style::Plain => "",
                Style::Head => "\x1b[1m",
                Style::Bad => "\x1b[31m",
            };
            if at > 0 {
                picture.push('\n');
            }
            match self.colours && !code.is_empty() {
                true => picture.extend([code, &text, "\x1b[0m"]),
                false => picture.push_str(&text),
            }
            if self.terminal {
                // What is left of the line before.
                picture.push_str("\x1b[K");
            }
        }
        picture.push_str(if self.terminal { "\x1b[J" } else { "\n" });
        print_now(&picture)
    }

    fn size(&self) -> (usize, usize) {
        match self
            .terminal
            .then(|| terminal::size(&io::stdout()))
            .flatten()
        {
            Some(size) => size,
            _ if self.terminal => (80, 24),
            _ => (COLUMNS, ROWS),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            // There is no terminal to restore where this fails.
            let _ = print_now("\x1b[?25h\x1b[?1049l");
        }
    }
}

fn print_now(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
