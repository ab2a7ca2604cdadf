//! The house: files import only from files below them, and none is long.
//!
//! The rule, for each crate of the workspace:
//!
//! - A parent is above its children: `cluster.rs` imports from `cluster/link.rs`, never the other
//!   way round. What both need is in a file below both.
//! - Siblings import each other in one direction. A sibling here is a file with its folder, so
//!   nothing in `cluster/link/` imports from `cluster/routing/` if anything there imports from
//!   `cluster/link/`.
//! - At the top `lib.rs` declares the order: a module imports only from those declared after it.
//!
//! An import counts towards the file that defines the item, whichever re-export it comes by. Tests
//! inside `src` may import what they test.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

#[path = "layering/graph.rs"]
mod graph;
#[path = "layering/source.rs"]
mod source;

use graph::Import;
use source::{Crate, files, root};

/// Modules that are held to less than everything below them.
const ONLY: &[(&str, &[&str])] = &[
    // It knows nothing of this framework but the traces of its tasks.
    ("scheduler", &["trace"]),
];

const MAX_LINES: usize = 500;

/// One crate of the workspace.
struct Read {
    lib: PathBuf,
    /// Its modules at the top, in the order of their declarations.
    declared: Vec<String>,
    imports: BTreeSet<Import>,
}

/// Read once: without optimizations that takes a second.
static CRATES: LazyLock<Vec<Read>> = LazyLock::new(|| {
    let read = |lib: PathBuf| {
        let source = Crate::read(&lib);
        let top = source.modules[0].children.iter();
        Read {
            declared: top.map(|(name, _)| name.clone()).collect(),
            imports: graph::imports(&source),
            lib,
        }
    };
    crates().into_iter().map(read).collect()
});

#[test]
fn files_import_only_from_files_below() {
    let mut found = BTreeSet::new();
    let (mut circular, mut groups) = (0, 0);
    for Read { imports, .. } in &*CRATES {
        found.extend(graph::upward(imports));
        let cycles = graph::cycles(imports);
        groups += cycles.len();
        circular += cycles.iter().map(BTreeSet::len).sum::<usize>();
    }
    println!("{circular} files in {groups} cycles");
    let found: Vec<_> = found.iter().map(line).collect();
    assert!(found.is_empty(), "imports that run up: {found:#?}");
}

#[test]
fn top_level_modules_import_only_from_those_declared_after_them() {
    let mut wrong = Vec::new();
    for Read {
        lib,
        declared,
        imports,
    } in &*CRATES
    {
        let position = |file: &Path| {
            let module = top_level(lib, file);
            declared.iter().position(|name| *name == module)
        };
        for import in imports {
            let from = position(&import.0);
            if from.is_some() && from > position(&import.1) {
                wrong.push(line(import));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn some_modules_import_little() {
    let lib = Path::new("src/lib.rs");
    let node = CRATES.iter().find(|read| read.lib == lib).unwrap();
    let mut wrong = Vec::new();
    for import in &node.imports {
        let (from, to) = (top_level(lib, &import.0), top_level(lib, &import.1));
        let only = ONLY.iter().find(|(module, _)| *module == from);
        if from != to && only.is_some_and(|(_, only)| !only.contains(&to.as_str())) {
            wrong.push(line(import));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_is_declared_by_its_parent() {
    let mut forgotten = Vec::new();
    for lib in crates() {
        let source = lib.parent().unwrap();
        for file in files(source.to_str().unwrap(), &["rs"]) {
            let folder = file.parent().unwrap();
            let parent = if folder == source {
                lib.clone()
            } else {
                folder.with_extension("rs")
            };
            let text = fs::read_to_string(root().join(parent)).unwrap_or_default();
            let declared = text.contains(&format!("mod {};", file.file_stem().unwrap().display()))
                || text.contains(&format!("{}\"]", file.file_name().unwrap().display()));
            if file != lib && !declared {
                forgotten.push(file);
            }
        }
    }
    assert!(forgotten.is_empty(), "part of no module: {forgotten:?}");
}

#[test]
fn no_file_is_long() {
    let lines = |file: &PathBuf| {
        fs::read_to_string(root().join(file))
            .unwrap()
            .lines()
            .count()
    };
    let all = ["src", "crates", "tests", "examples", "benchmark"];
    let long: Vec<_> = all
        .into_iter()
        .flat_map(|folder| files(folder, &["rs"]))
        .filter(|file| lines(file) > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines: {long:?}");

    let mut source: Vec<_> = ["src", "crates"]
        .into_iter()
        .flat_map(|folder| files(folder, &["rs"]))
        .map(|file| lines(&file))
        .collect();
    source.sort_unstable();
    println!(
        "{} files in src and crates, {} lines in the median, {} in the longest",
        source.len(),
        source[source.len() / 2],
        source[source.len() - 1]
    );
}

#[test]
fn every_lock_is_in_the_table_of_locks() {
    let document = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (_, table) = document.split_once("\n## Locks\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let listed: BTreeSet<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let of_tests = |file: &Path| {
        file.iter().any(|part| {
            let part = part.to_string_lossy();
            ["test", "simulation", "mock"]
                .iter()
                .any(|name| part.starts_with(name))
        })
    };
    let with_locks: BTreeSet<_> = files("src", &["rs"])
        .into_iter()
        .filter(|file| !of_tests(file) && has_lock(file))
        .map(|file| {
            let parts: Vec<_> = file.iter().map(|part| part.to_str().unwrap()).collect();
            let (last, folders) = parts.split_last().unwrap();
            let last = last.strip_suffix(".rs").unwrap();
            match folders.last() {
                Some(&folder) if folder != "src" => format!("{folder}::{last}"),
                _ => last.to_owned(),
            }
        })
        .collect();
    let with_locks: BTreeSet<_> = with_locks.iter().map(String::as_str).collect();
    let missing: Vec<_> = with_locks.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    // Locks of other modules, taken while one is held, are named in the same words.
    let stale: Vec<_> = listed.difference(&with_locks).collect();
    assert!(stale.is_empty(), "no locks in: {stale:?}");
}

#[test]
fn every_suite_is_in_the_readme_of_tests() {
    let readme = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let named: BTreeSet<_> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|name| name.trim_end_matches('/').rsplit('/').next().unwrap())
        .collect();
    let mut missing = Vec::new();
    for file in files("tests", &["rs"]) {
        let mut parts = file.iter().skip(1).map(|part| part.to_str().unwrap());
        let (first, second) = (parts.next().unwrap(), parts.next());
        let is_suite = second.is_none_or(|file| file == "main.rs") && first != "fixtures";
        if is_suite && !named.contains(first) {
            missing.push(file);
        }
    }
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

/// Whether a file names the type of a lock outside of comments and of its unit tests.
fn has_lock(file: &Path) -> bool {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .any(|line| line.contains("Mutex<") || line.contains("RwLock<"))
}

/// The roots of all crates that are checked.
fn crates() -> Vec<PathBuf> {
    files("src", &["rs"])
        .into_iter()
        .chain(files("crates", &["rs"]))
        .filter(|file| file.ends_with("src/lib.rs"))
        .collect()
}

/// `gate` of `src/gate.rs` and of everything in `src/gate`.
fn top_level(lib: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(lib.parent().unwrap()).unwrap();
    let first = inside.iter().next().unwrap();
    Path::new(first)
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

fn line((from, to): &Import) -> String {
    format!("{} -> {}", from.display(), to.display())
}

#[test]
fn paths_are_resolved_in_every_form() {
    let source = Crate::of_text(
        "mod a { pub use self::b::Item; pub mod b { pub struct Item; pub fn f() {} } pub fn g() {} }
         mod c { use crate::a::{self, b::{self as renamed, *}, Item}; use super::a::g as h; }
         use a::Item as Renamed;",
    );
    let at = |module: &[&str]| {
        module.iter().fold(0, |at, name| {
            let children = &source.modules[at].children;
            children.iter().find(|(child, _)| child == name).unwrap().1
        })
    };
    let (root, a, b, c) = (0, at(&["a"]), at(&["a", "b"]), at(&["c"]));
    for (from, path, expected) in [
        (c, "Item", Some(b)),
        (c, "f", Some(b)),
        (c, "h", Some(a)),
        (c, "a::g", Some(a)),
        (c, "a::Item", Some(b)),
        (c, "renamed::f", Some(b)),
        (c, "super::a::b::f", Some(b)),
        (c, "crate::a::Item::method", Some(b)),
        (c, "std::fmt::Debug", None),
        (c, "crate::a", None),
        (root, "Renamed::new", Some(b)),
        (b, "super::super::a::g", Some(a)),
    ] {
        let path: Vec<_> = path.split("::").map(str::to_owned).collect();
        assert_eq!(source.definition(from, &path), expected, "{path:?}");
    }
}

#[test]
fn imports_that_run_up_are_found() {
    let import = |from: &str, to: &str| (PathBuf::from(from), PathBuf::from(to));
    let down = [
        import("src/lib.rs", "src/a.rs"),
        import("src/a.rs", "src/a/one.rs"),
        import("src/a/one.rs", "src/a/two.rs"),
        import("src/a/two/deep.rs", "src/b.rs"),
    ];
    assert_eq!(graph::upward(&down.clone().into()), BTreeSet::new());
    for up in [
        import("src/a.rs", "src/lib.rs"),
        import("src/a/two.rs", "src/a.rs"),
        import("src/a/two/deep.rs", "src/a.rs"),
    ] {
        let imports = down.iter().chain([&up]).cloned().collect();
        assert_eq!(graph::upward(&imports), BTreeSet::from([up]));
    }
    // Siblings with their folders import each other.
    let back = import("src/b/deep.rs", "src/a/three.rs");
    let imports = down.iter().chain([&back]).cloned().collect();
    let both = BTreeSet::from([back, down[3].clone()]);
    assert_eq!(graph::upward(&imports), both);
    assert!(graph::cycles(&imports).is_empty());
}
