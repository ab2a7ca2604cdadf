//! Where lines come from: an editor at the terminal, or a script.

use std::{io, path::PathBuf};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin},
    sync::mpsc,
};

use super::{Routes, output::Output};
use crate::failure::Failure;

#[cfg(unix)]
mod editor;

/// The longest line of a script, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// Lines, one after the other.
#[derive(Debug)]
pub(super) enum Input {
    Script(BufReader<Stdin>),
    /// An editor on a thread of its own, which waits to be asked for each line.
    Editor {
        ask: std::sync::mpsc::Sender<()>,
        lines: mpsc::Receiver<io::Result<Option<String>>>,
    },
}

impl Input {
    pub(super) fn script() -> Self {
        Self::Script(BufReader::new(tokio::io::stdin()))
    }

    /// An editor with history and completion, and the output that prints above its line.
    ///
    /// # Errors
    /// The terminal cannot be used.
    #[cfg(unix)]
    pub(super) fn editor(
        routes: Routes,
        history: Option<PathBuf>,
        json: bool,
    ) -> Result<(Self, Output), Failure> {
        let (ask, lines, above) = editor::start(routes, history)
            .map_err(|error| Failure::Failed(format!("cannot use the terminal: {error}")))?;
        Ok((Self::Editor { ask, lines }, Output::above(json, above)))
    }

    /// Elsewhere the system's own lines do.
    #[cfg(not(unix))]
    pub(super) fn editor(
        _: Routes,
        _: Option<PathBuf>,
        json: bool,
    ) -> Result<(Self, Output), Failure> {
        Ok((Self::script(), Output::plain(json)))
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// Of the standard input.
    pub(super) async fn next(&mut self) -> Result<Option<String>, Failure> {
        let unreadable = |error: io::Error| Failure::Failed(format!("cannot read: {error}"));
        match self {
            Self::Script(input) => {
                let mut line = String::new();
                let read = input.take(MAX_LINE).read_line(&mut line).await;
                match read.map_err(unreadable)? {
                    0 => Ok(None),
                    read if read as u64 == MAX_LINE => {
                        Err(Failure::Failed("a line of more than 16 MiB".to_owned()))
                    }
                    _ => Ok(Some(line)),
                }
            }
            Self::Editor { ask, lines } => {
                if ask.send(()).is_err() {
                    return Ok(None);
                }
                match lines.recv().await {
                    None => Ok(None),
                    Some(line) => line.map_err(unreadable),
                }
            }
        }
    }
}
