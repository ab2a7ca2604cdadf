//! The house: modules import from those below them only, and no file is long.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// From the top down, as in `lib.rs`. A module imports only from those below it.
const ORDER: &[&str] = &[
    "guide",
    "app",
    "node",
    "gate",
    "cluster",
    "dispatch",
    "component",
    "handle",
    "group",
    "pipeline",
    "mock",
    "session",
    "scheduler",
    "client",
    "member",
    "in_flight",
    "panic",
    "metrics",
    "socket",
    // Modules of nano-protocol, which the compiler keeps below.
    "serialize",
    "handshake",
    "message",
    "packet",
    "error",
];

/// How many of [`ORDER`] are modules of another crate.
const FOREIGN: usize = 5;

/// Modules that are held to less than everything below them.
const ONLY: &[(&str, &[&str])] = &[
    // The server's inside must not become part of what a client needs.
    (
        "client",
        &["serialize", "handshake", "message", "packet", "error"],
    ),
    // It knows nothing of this framework.
    ("scheduler", &["error"]),
];

const MAX_LINES: usize = 640;

#[test]
fn modules_import_only_from_below() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let module = module_of(&file);
        if module == "lib" {
            continue;
        }
        for import in imports(&code_of(&file), is_top_level(&file)) {
            if import != module && !may_import(&module, &import) {
                wrong.push(format!("{}: {module} imports {import}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_its_place() {
    let lib = code_of(Path::new("src/lib.rs"));
    let declared: Vec<_> = lib
        .lines()
        .filter_map(|line| {
            line.trim_start_matches("pub ")
                .strip_prefix("mod ")?
                .strip_suffix(';')
        })
        .collect();
    let own = &ORDER[..ORDER.len() - FOREIGN];
    assert_eq!(declared, own, "the modules of lib.rs, in their order");
    let files: BTreeSet<_> = rust_files("src")
        .iter()
        .map(|file| module_of(file))
        .filter(|module| module != "lib")
        .collect();
    assert_eq!(
        files,
        own.iter().map(|&module| module.to_owned()).collect(),
        "the files of src"
    );
}

#[test]
fn no_file_is_long() {
    let lines = |file: &PathBuf| fs::read_to_string(file).unwrap().lines().count();
    let files: Vec<_> = ["src", "tests", "examples"]
        .into_iter()
        .flat_map(rust_files)
        .collect();
    // Nobody reads what is generated.
    let written = |file: &&PathBuf| {
        !file
            .components()
            .any(|part| part.as_os_str() == "generated")
    };
    let long: Vec<_> = files
        .iter()
        .filter(written)
        .filter(|file| lines(file) > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines: {long:?}");

    let mut source: Vec<_> = rust_files("src").iter().map(lines).collect();
    source.sort_unstable();
    println!(
        "{} files in src, {} lines in the median, {} in the longest",
        source.len(),
        source[source.len() / 2],
        source[source.len() - 1]
    );
}

fn may_import(module: &str, import: &str) -> bool {
    let place = |name: &str| ORDER.iter().position(|&module| module == name);
    let below = place(module)
        .zip(place(import))
        .is_some_and(|(module, import)| module < import);
    below
        && ONLY
            .iter()
            .find(|(name, _)| *name == module)
            .is_none_or(|(_, allowed)| allowed.contains(&import))
}

/// The first segments of all paths that start at the root of the crate, however they get there.
fn imports(code: &str, top_level: bool) -> BTreeSet<String> {
    // In a file of the top level `super` is the root; in the others, `super::super` is, or
    // something in between that has a nearer way.
    let roots: &[&str] = if top_level {
        &["crate::", "super::"]
    } else {
        &["crate::", "super::super::"]
    };
    let paths = roots.iter().flat_map(|root| {
        code.match_indices(root)
            .map(|(at, root)| &code[at + root.len()..])
    });
    paths
        .flat_map(first_segments)
        .filter(|segment| segment != "*")
        .collect()
}

/// `a` of `a::b`; `a` and `c` of `{a::b, c::{d, e}}`.
fn first_segments(path: &str) -> Vec<String> {
    let Some(list) = path.strip_prefix('{') else {
        return vec![first_segment(path)];
    };
    let mut segments = Vec::new();
    let (mut depth, mut item) = (0, 0);
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                segments.push(first_segment(&list[item..at]));
                item = at + 1;
                if char == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}

fn first_segment(path: &str) -> String {
    let path = path.trim_start();
    if path.starts_with('*') {
        return "*".to_owned();
    }
    path.chars()
        .take_while(|char| char.is_alphanumeric() || *char == '_')
        .collect()
}

/// A file without its comments.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// `gate` of `src/gate.rs` and of everything in `src/gate`.
fn module_of(file: &Path) -> String {
    let first = file.components().nth(1).unwrap().as_os_str();
    Path::new(first)
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

fn is_top_level(file: &Path) -> bool {
    file.components().count() == 2
}

/// All Rust files in a folder of the crate, relative to the crate.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    files
}

#[test]
fn imports_are_found_in_every_form() {
    let found = |code, top_level| imports(code, top_level).into_iter().collect::<Vec<_>>();
    assert_eq!(
        found(
            "use crate::{\n    a::{self, b::C},\n    d::*,\n    E,\n};\nuse crate::f::g;",
            true
        ),
        ["E", "a", "d", "f"]
    );
    assert_eq!(
        found("fn f() { crate::a::b(super::c::D) }", true),
        ["a", "c"]
    );
    assert_eq!(
        found(
            "use super::a::b; use super::super::c::d; mod tests { use super::*; }",
            false
        ),
        ["c"]
    );
    assert_eq!(
        found("mod tests { use super::*; use super::a; }", true),
        ["a"]
    );
}
