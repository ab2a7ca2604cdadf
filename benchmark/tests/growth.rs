//! The growth curves whose servers are processes of their own, at their smallest.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, process::Command, thread};

/// Runs some curves and returns their table.
fn grow(curves: &[&str]) -> String {
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_nano-bench"))
        .arg("growth")
        .args(curves)
        .args(["--sizes", "500", "--runs", "1", "--out"])
        .arg(out.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    fs::read_to_string(out.path().join("growth.md")).unwrap()
}

#[test]
#[ignore = "slow"]
fn the_memory_of_the_directory_is_measured() {
    let table = grow(&["directory", "directory-text"]);
    assert_eq!(
        table.matches("neither owner nor gate").count(),
        2,
        "{table}"
    );
}

#[test]
#[ignore = "slow"]
fn owners_that_are_killed_join_and_leave_hand_over() {
    let curves = ["handover-kill", "handover-join", "handover-leave"];
    // At the same time: they mostly wait.
    let tables = curves.map(|curve| thread::spawn(move || grow(&[curve])));
    for table in tables {
        let table = table.join().unwrap();
        assert!(table.contains("served again"), "{table}");
    }
}
