//! Counting.

use std::{env, process::Command};

use nano::{Error, Result, code};

const EXCHANGES: u64 = 4_000;

/// Instructions for one message of a case.
pub(crate) fn count(case: &str) -> Result<u64> {
    let (once, _) = instructions(case, EXCHANGES)?;
    let (twice, messages) = instructions(case, 2 * EXCHANGES)?;
    Ok(twice.saturating_sub(once) / (EXCHANGES * messages))
}

/// All instructions of a run, and how many messages one of its exchanges counts for.
fn instructions(case: &str, exchanges: u64) -> Result<(u64, u64)> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
    ]);
    let output = valgrind
        .arg(env::current_exe()?)
        .args(["run", case, &exchanges.to_string()])
        .output();
    let output =
        output.map_err(|error| Error::new(code::UNAVAILABLE, format!("valgrind: {error}")))?;
    let (said, counted) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let failed = || Error::new(code::INTERNAL, format!("{case} under valgrind: {counted}"));
    if !output.status.success() {
        return Err(failed());
    }
    let (_, number) = counted.split_once("refs:").ok_or_else(failed)?;
    let digits: String = number
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    Ok((digits.parse()?, said.trim().parse()?))
}
