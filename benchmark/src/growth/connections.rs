//! Connections most of which only exist.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::Parser;
use nano::{Error, Result, code};
use tokio::time::sleep;

use super::curve::Point;
use crate::{
    load,
    process::{self, CpuTime},
};

/// Clients that ask.
const BUSY: usize = 20;
const REST: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(10);

pub(super) async fn measure(size: usize) -> Result<Point> {
    let (server, line) = start(&["servers", "nano"])?;
    let address = line
        .strip_prefix("listening on ")
        .ok_or_else(|| Error::new(code::UNAVAILABLE, "the server says no address"))?;
    let url = format!("tcp://{address}");
    let pid = server.0.id();
    let empty = process::memory(&[pid]);
    let idle = size - BUSY;
    let count = idle.to_string();
    let mut flags = vec!["load", "--scenario", "idle", "--duration", "600"];
    flags.extend(["--connect", &url, "--connections", &count]);
    let idlers = Process::start(&flags)?;
    super::usage::until("idle clients to connect", || sockets(pid) >= idle).await?;
    sleep(REST).await;
    let memory = process::memory(&[pid]).saturating_sub(empty);
    let before = CpuTime::of(&[pid]);
    sleep(MEASURED).await;
    let resting = CpuTime::of(&[pid]).since(&before) as f64 / 1e3 / MEASURED.as_secs_f64();

    let (pid, busy) = (pid.to_string(), BUSY.to_string());
    let options = load::Options::try_parse_from([
        "load",
        "--connect",
        &url,
        "--connections",
        &busy,
        "--pid",
        &pid,
        "--duration",
        "4",
    ])
    .map_err(|error| Error::new(code::BAD_REQUEST, error.to_string()))?;
    let report = tokio::task::spawn_blocking(move || load::run(&options)).await??;
    drop(idlers);
    Ok(Point::default()
        .with(
            "CPU per message",
            "us",
            report.server_cpu.unwrap_or_default(),
        )
        .with("p99", "us", report.p99)
        .with(
            "memory per connection",
            "KiB",
            memory as f64 / idle as f64 / 1024.0,
        )
        .with(
            "CPU per idle connection and second",
            "us",
            resting / idle as f64,
        ))
}

/// How many descriptors the process has beyond those of a server without clients.
fn sockets(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Ends with this.
struct Process(Child);

impl Process {
    fn start(flags: &[&str]) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(flags)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

/// Starts a server; returns the first line it prints.
fn start(flags: &[&str]) -> Result<(Process, String)> {
    let child = Command::new(std::env::current_exe()?)
        .args(flags)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut server = Process(child);
    let mut line = String::new();
    if let Some(output) = server.0.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    Ok((server, line.trim().to_owned()))
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or ends now: either is what is wanted.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}
