//! What the compiler says to those who make a mistake in a component, kept word for word in
//! `tests/ui/*.stderr`.
//!
//! After a change on purpose: `TRYBUILD=overwrite cargo test --test ui`, and read the difference.

use std::{
    env,
    io::{Write, stderr},
    process::Command,
};

/// The release the snapshots were made with; others word their errors differently.
const RELEASE: &str = "1.95.";

#[test]
fn errors_name_the_mistake_and_the_remedy() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap()
        .stdout;
    let version = String::from_utf8(version).unwrap();
    if version
        .split(' ')
        .nth(1)
        .is_some_and(|release| release.starts_with(RELEASE))
    {
        trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
        return;
    }
    let skipped = format!(
        "skipped: the compile errors in tests/ui were recorded with rustc {RELEASE}x, this is {}",
        version.trim()
    );
    assert!(env::var_os("CI").is_none(), "{skipped}");
    // Not `eprintln!`, which the test harness would keep to itself.
    writeln!(stderr(), "{skipped}").unwrap();
}
