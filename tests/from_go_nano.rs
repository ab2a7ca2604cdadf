//! `docs/from-go-nano.md` names things that exist. Its samples are doc tests; this is for the
//! tables.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path};

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
            let defined = ["fn", "struct", "enum", "trait", "const", "type"]
                .iter()
                .any(|kind| {
                    code.match_indices(&format!("pub {kind} {name}"))
                        .chain(code.match_indices(&format!("    {kind} {name}")))
                        .any(|(at, found)| {
                            let after = code[at + found.len()..].chars().next();
                            after.is_some_and(|after| !after.is_alphanumeric() && after != '_')
                        })
                });
            let variant = code.contains(&format!("\n    {name},"));
            // Names of metrics are in a table of their own.
            let metric = code.contains(&format!("\n    {name} = \"nano_"));
            let asynchronous = code.contains(&format!("pub async fn {name}"));
            assert!(
                defined || variant || metric || asynchronous,
                "{span} in {row}"
            );
            checked += 1;
        }
    }
    assert!(
        checked > 100,
        "only {checked} paths found: has the form of the tables changed?"
    );
}
