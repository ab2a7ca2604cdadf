//! How much memory the process may use.

use std::fs;

/// The memory of the machine, or of the control group of the process if that is less, in bytes.
/// `None` where the system does not say.
pub(crate) fn machine_memory() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| total(&text));
    let limits = LIMITS.iter().filter_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        limit(&text)
    });
    limits.chain(machine).min()
}

/// The limits of a control group, as the group itself sees them: version 2, and version 1.
const LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// The line `MemTotal:  24604480 kB` in bytes.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// A limit in bytes; `None` for `max`, which is none.
fn limit(text: &str) -> Option<usize> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{limit, total};

    #[test]
    fn the_files_of_the_system_are_read() {
        let meminfo = "MemTotal:       24604480 kB\nMemFree:         1024 kB\n";
        assert_eq!(total(meminfo), Some(24_604_480 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(limit("268435456\n"), Some(256 << 20));
        assert_eq!(limit("max\n"), None);
    }
}
