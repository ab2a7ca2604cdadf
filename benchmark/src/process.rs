//! CPU time and memory of processes, from `/proc`.

use std::{collections::HashMap, fs};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process open as many files as it may; returns how many those are.
pub(crate) fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .is_ok();
    let files = if raised { limit.maximum } else { limit.current };
    files.map_or(usize::MAX, |files| files as usize)
}

/// CPU time of a set of processes, thread by thread.
#[derive(Debug, Default)]
pub(crate) struct CpuTime(HashMap<(u32, u32), u64>);

impl CpuTime {
    pub(crate) fn of(pids: &[u32]) -> Self {
        let threads = pids
            .iter()
            .flat_map(|&pid| threads(pid).map(move |thread| (pid, thread)));
        Self(
            threads
                .filter_map(|(pid, thread)| Some(((pid, thread), nanoseconds(pid, thread)?)))
                .collect(),
        )
    }

    /// Nanoseconds since `earlier`; those of threads that have ended meanwhile are lost.
    pub(crate) fn since(&self, earlier: &Self) -> u64 {
        self.0
            .iter()
            .map(|(thread, now)| now.saturating_sub(earlier.0.get(thread).copied().unwrap_or(0)))
            .sum()
    }

    /// Those of the busiest thread.
    pub(crate) fn busiest_since(&self, earlier: &Self) -> u64 {
        self.0
            .iter()
            .map(|(thread, now)| now.saturating_sub(earlier.0.get(thread).copied().unwrap_or(0)))
            .max()
            .unwrap_or(0)
    }
}

/// Memory in bytes: the proportional share where the system knows it, else what is resident.
pub(crate) fn memory(pids: &[u32]) -> u64 {
    let pss = |pid| {
        field(
            &fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?,
            "Pss:",
        )
    };
    let rss = |pid| {
        field(
            &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
            "VmRSS:",
        )
    };
    pids.iter()
        .filter_map(|pid| pss(pid).or_else(|| rss(pid)))
        .sum()
}

/// The most memory a process has had resident, in bytes.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|text| field(&text, "VmHWM:"))
        .unwrap_or(0)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}

fn threads(pid: u32) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn nanoseconds(pid: u32, thread: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
