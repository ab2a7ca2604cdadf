//! `docs/from-go-nano.md` names things that exist. Its samples are doc tests; this is for the
//! tables.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::HashSet, fs, path::Path};

/// The names that the lines of a source define: items, variants of enums, metrics.
fn names(code: &str) -> HashSet<&str> {
    let mut names = HashSet::new();
    for line in code.lines() {
        // Methods of traits have no `pub`.
        let item = line.trim_start();
        let item = item.strip_prefix("pub ").unwrap_or(item);
        let item = item.strip_prefix("async ").unwrap_or(item);
        let kinds = ["fn ", "struct ", "enum ", "trait ", "const ", "type "];
        if let Some(item) = kinds.iter().find_map(|kind| item.strip_prefix(kind)) {
            let end = item.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
            names.insert(&item[..end.unwrap_or(item.len())]);
        }
        if let Some(inner) = line.strip_prefix("    ") {
            let metric = inner.split_once(" = \"nano_").map(|(metric, _)| metric);
            let variant = inner.strip_suffix(',').map(|it| it.split('(').next());
            names.extend(metric.or(variant.flatten()));
        }
    }
    names
}

fn sources(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// `Session::value::<T>` is the method `value`, `Encode<M>` the trait `Encode`.
fn last_name(span: &str) -> &str {
    let path = span
        .split(['<', '('])
        .next()
        .unwrap_or(span)
        .trim_end_matches(':');
    path.rsplit("::").next().unwrap_or(path)
}

#[test]
fn every_path_in_the_tables_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for directory in ["src", "crates"] {
        sources(&root.join(directory), &mut code);
    }
    let names = names(&code);
    let guide = fs::read_to_string(root.join("docs/from-go-nano.md")).unwrap();

    let mut checked = 0;
    for row in guide.lines().filter(|line| line.starts_with("| ")) {
        // The first column is Go's.
        let columns = row.splitn(3, " | ").skip(1).collect::<Vec<_>>().join(" ");
        for span in columns
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|span| span.contains("::"))
        {
            let name = last_name(span);
            assert!(names.contains(name), "{span} in {row}");
            checked += 1;
        }
    }
    assert!(
        checked > 100,
        "only {checked} paths found: has the form of the tables changed?"
    );
}
