//! Each metric that `src/metrics/names.rs` declares is in a test that sees it change.

use std::{collections::HashSet, fs, path::Path};

/// The files with tests of metrics.
const TESTS: [&str; 8] = [
    "tests/metrics.rs",
    "tests/metrics/channels.rs",
    "tests/metrics/connections.rs",
    "tests/metrics/nodes.rs",
    "tests/metrics/users.rs",
    "tests/admin/cluster.rs",
    "tests/admin/metrics.rs",
    "tests/admin/stuck.rs",
];

#[test]
fn every_metric_is_named_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
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
