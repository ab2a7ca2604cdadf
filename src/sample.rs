//! How much of a slow test runs.

use std::env;

/// Returns the part of `many` that `NANO_SAMPLE` asks for, in percent; all without it.
pub(crate) fn sampled(many: u64) -> u64 {
    let percent = env::var("NANO_SAMPLE").map_or(100, |percent| percent.parse().unwrap());
    (many * percent / 100).max(1)
}
