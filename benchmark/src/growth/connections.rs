//! Connections most of which only exist.

use std::time::Duration;

use nano::Result;
use tokio::time::sleep;

use super::{
    curve::Point,
    server::{self, Process},
    usage::until,
};
use crate::process::{self, CpuTime};

/// Clients that ask.
const BUSY: usize = 20;
const REST: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(10);

pub(super) async fn measure(size: usize) -> Result<Point> {
    let (server, address) = server::start(&[])?;
    let pids = [server.id()];
    let empty = process::memory(&pids);
    let idle = size - BUSY;
    let (url, count) = (format!("tcp://{address}"), idle.to_string());
    let mut flags = vec!["load", "--scenario", "idle", "--duration", "600"];
    flags.extend(["--connect", &url, "--connections", &count]);
    let idlers = Process::start(&flags)?;
    until("idle clients to connect", || server.descriptors() >= idle).await?;
    sleep(REST).await;
    let memory = process::memory(&pids).saturating_sub(empty);
    let before = CpuTime::of(&pids);
    sleep(MEASURED).await;
    let resting = CpuTime::of(&pids).since(&before) as f64 / 1e3 / MEASURED.as_secs_f64();

    let busy = BUSY.to_string();
    let flags = ["--connections", &busy, "--duration", "4"];
    let report = server::load(&server, &address, &flags).await?;
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
