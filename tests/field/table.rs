//! The list of cases names tests that exist.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// All files below a folder, build results and packages of others left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_dir() && name != "node_modules" && name != "target" {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_test_the_list_of_cases_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: Vec<_> = ["tests", "src", "crates", "examples"]
        .iter()
        .flat_map(|folder| files(&root.join(folder)))
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "rs" || extension == "mjs")
        })
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let list = fs::read_to_string(root.join("tests/field/README.md")).unwrap();
    let rows = list.lines().filter(|line| line.starts_with("| "));
    let mut count = 0;
    for name in rows
        .filter_map(|row| row.split('|').nth(4))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        // Documents and programs are named beside tests.
        .filter(|name| !name.contains(['.', '/']))
    {
        let (rust, script) = (format!("fn {name}("), format!("test('{name}'"));
        assert!(
            sources
                .iter()
                .any(|source| source.contains(&rust) || source.contains(&script)),
            "no such test: {name}"
        );
        count += 1;
    }
    assert!(count > 30, "{count}");
}
