//! The machine the numbers were measured on.

use std::{fs, process::Command, thread};

use super::go;

const GO_NANO: &str = include_str!("../../peers/nano-go/go.mod");

pub(crate) fn describe() -> Vec<(String, String)> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let processor = file_value("/proc/cpuinfo", "model name").unwrap_or_default();
    let memory = file_value("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let facts = [
        (
            "processor",
            format!("{processor}, {cores} cores, shared by servers and load"),
        ),
        ("memory", memory),
        ("Linux", kernel.trim().to_owned()),
        (
            "nano (Rust)",
            format!(
                "{} {}",
                nano::VERSION,
                said("git", &["describe", "--always", "--dirty"])
            ),
        ),
        ("Rust", said("rustc", &["--version"])),
        (
            "Go nano",
            go::required(GO_NANO, "github.com/lonng/nano")
                .unwrap_or_default()
                .to_owned(),
        ),
        (
            "Go",
            go::version().unwrap_or_else(|| "not installed".to_owned()),
        ),
        (
            "command",
            std::env::args()
                .skip(1)
                .fold("nano-bench".to_owned(), |line, argument| {
                    line + " " + &argument
                }),
        ),
    ];
    facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn file_value(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
