//! Each metric that `src/metrics/names.rs` declares is in a test that sees it change.

use std::{collections::HashSet, env, fs, path::Path};

/// The files with tests of metrics.
const TESTS: [&str; 13] = [
    "tests/metrics.rs",
    "tests/metrics/channels.rs",
    "tests/metrics/connections.rs",
    "tests/metrics/groups.rs",
    "tests/metrics/inputs.rs",
    "tests/metrics/migrations.rs",
    "tests/metrics/nodes.rs",
    "tests/metrics/users.rs",
    "tests/admin/cluster.rs",
    "tests/admin/health.rs",
    "tests/admin/metrics.rs",
    "tests/admin/peers.rs",
    "tests/admin/stuck.rs",
];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap()
}

/// The text of documentation, whose links are names of items.
fn plain(documentation: &str) -> String {
    let mut out = String::new();
    let mut rest = documentation;
    while let Some((before, link)) = rest.split_once('[') {
        let (text, after) = link.split_once(']').unwrap();
        out.extend([before, text]);
        rest = match after.starts_with('(') {
            true => after.split_once(')').unwrap().1,
            false => after,
        };
    }
    out + rest
}

/// A row of a table for each metric.
fn rows() -> String {
    let declared = read("src/metrics/names.rs");
    let (_, declared) = declared.split_once("\nnames! {\n").unwrap();
    let (mut rows, mut text) = (String::new(), Vec::new());
    for line in declared.lines().map(str::trim) {
        if let Some(documentation) = line.strip_prefix("/// ") {
            text.push(documentation);
        } else if let Some((_, name)) = line.split_once(" = ") {
            let content = plain(&text.join(" "));
            rows += &format!("| `{}` | {content} |\n", name.trim_matches(['"', ',']));
            text.clear();
        }
    }
    rows
}

#[test]
fn the_document_has_every_metric() {
    let text = read("docs/metrics.md");
    let (before, _) = text.split_once("<!-- generated").unwrap();
    let comment = "<!-- generated: run the test with NANO_BLESS=1 to write it anew -->";
    let head = "| metric | content |\n|---|---|";
    let expected = format!("{before}{comment}\n{head}\n{}", rows());
    if env::var_os("NANO_BLESS").is_some() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        return fs::write(file, expected).unwrap();
    }
    assert!(
        text == expected,
        "docs/metrics.md is old; NANO_BLESS=1 cargo test --test metrics named writes it"
    );
}

#[test]
fn every_metric_is_named_by_a_test() {
    let tests: String = TESTS.iter().map(|path| read(path)).collect();
    let declared = read("src/metrics/names.rs");
    let declared = declared
        .lines()
        .filter_map(|line| line.trim().split_once(" = \"nano_"))
        .map(|(name, _)| name);
    let named: HashSet<_> = tests
        .split("names::")
        .filter_map(|rest| {
            rest.split(|c: char| c != '_' && !c.is_ascii_uppercase())
                .next()
        })
        .collect();
    let untested: Vec<_> = declared
        .clone()
        .filter(|name| !named.contains(name))
        .collect();
    assert!(declared.count() > 60);
    assert_eq!(untested, [""; 0]);
}
