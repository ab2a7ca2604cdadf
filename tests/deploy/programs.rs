//! Programs that check files, where they are installed.

use std::process::Command;

/// What a program prints. `None`, with a note, where it is not installed.
///
/// # Panics
/// It fails.
pub(crate) fn run(command: &mut Command) -> Option<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let Ok(output) = command.output() else {
        println!("skipped: {name} is not installed");
        return None;
    };
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {out}{errors}");
    Some(out)
}

/// The fenced blocks of a document with this language.
pub(crate) fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    let blocks = document.split(begin.as_str()).skip(1);
    blocks
        .filter_map(|it| Some(it.split_once("```")?.0))
        .collect()
}
