//! How much of a slow test runs.

use std::env;

/// Returns the part of `many` that `TEST_SAMPLE` asks for, in percent; all without it.
pub(crate) fn sampled(many: u64) -> u64 {
    let percent = env::var("TEST_SAMPLE").map_or(100, |percent| percent.parse().unwrap());
    (many * percent / 100).max(1)
}
