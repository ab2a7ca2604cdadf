//! A line editor with history and completion.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, Sender},
    thread,
};

use rustyline::{
    Config, Context, Editor, ExternalPrinter, Helper, completion::Completer, error::ReadlineError,
    highlight::Highlighter, hint::Hinter, history::DefaultHistory, validate::Validator,
};
use tokio::sync::mpsc as tokio_mpsc;

use super::super::{Routes, command::NAMES, output::Above};

/// Lines of the history.
const HISTORY: usize = 1000;

type Lines = tokio_mpsc::Receiver<io::Result<Option<String>>>;

/// Starts the editor.
///
/// # Errors
/// The terminal or the file cannot be used.
pub(super) fn start(
    routes: Routes,
    history: Option<PathBuf>,
) -> rustyline::Result<(Sender<()>, Lines, Above)> {
    let config = Config::builder()
        .max_history_size(HISTORY)?
        .auto_add_history(true)
        .build();
    let mut editor = Editor::<Names, DefaultHistory>::with_config(config)?;
    editor.set_helper(Some(Names(routes)));
    if let Some(path) = history.as_deref().filter(|path| path.exists()) {
        editor.load_history(path)?;
    }
    let mut printer = editor.create_external_printer()?;
    let above: Above = Box::new(move |text| {
        // Without a terminal there is no reader.
        let _ = printer.print(text);
    });
    let (ask, asked) = mpsc::channel();
    let (answer, lines) = tokio_mpsc::channel(1);
    thread::Builder::new()
        .name("editor".to_owned())
        .spawn(move || edit(&mut editor, history.as_deref(), &asked, &answer))?;
    Ok((ask, lines, above))
}

fn edit(
    editor: &mut Editor<Names, DefaultHistory>,
    history: Option<&Path>,
    asked: &Receiver<()>,
    answer: &tokio_mpsc::Sender<io::Result<Option<String>>>,
) {
    while let Ok(()) = asked.recv() {
        let line = match editor.readline("> ") {
            Ok(line) => Ok(Some(line)),
            // Ctrl-C begins a new line, as in a shell.
            Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
            Err(ReadlineError::Eof) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        };
        let saved = history.map_or(Ok(()), |path| editor.save_history(path));
        let line = line.and_then(|line| saved.map(|()| line).map_err(io::Error::other));
        if answer.blocking_send(line).is_err() {
            return;
        }
    }
}

/// Completes commands, and behind them routes.
struct Names(Routes);

impl Completer for Names {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..position];
        let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        Ok((start, candidates(before, &self.0.lock())))
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}

impl Validator for Names {}

impl Helper for Names {}

/// What the last word of a text may become: a command, or behind one a route.
fn candidates(text: &str, routes: &BTreeSet<String>) -> Vec<String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let begun = text.is_empty() || text.ends_with(char::is_whitespace);
    let (place, start) = match (begun, words.split_last()) {
        (false, Some((last, before))) => (before.len(), *last),
        _ => (words.len(), ""),
    };
    let complete = |names: &mut dyn Iterator<Item = &str>| {
        let fitting = names.filter(|name| name.starts_with(start));
        fitting.map(|name| format!("{name} ")).collect()
    };
    match place {
        0 => complete(&mut NAMES.into_iter()),
        1 => complete(&mut routes.iter().map(String::as_str)),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_routes_are_completed() {
        let routes = ["Room.Join", "Room.Say"].map(str::to_owned).into();
        let complete = |text| candidates(text, &routes).join("|");
        assert_eq!(complete("re"), "request ");
        assert_eq!(complete("request Room.J"), "Room.Join ");
        assert_eq!(complete("r "), "Room.Join |Room.Say ");
        assert_eq!(complete("r Room.Join "), "");
        assert_eq!(complete("é"), "");
        assert_eq!(complete("").split('|').count(), NAMES.len());
    }
}
