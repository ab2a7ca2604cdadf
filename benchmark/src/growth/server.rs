//! A server in a process of its own, and other processes of this program.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use clap::Parser;
use nano::{Error, Result, code};
use rustix::process::{Pid, Signal, kill_process};

use crate::load::{self, Report};

/// Ends with this.
pub(super) struct Process(Child);

impl Process {
    /// Runs this program with these flags.
    pub(super) fn start(flags: &[&str]) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(flags)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to stop, and waits until it has.
    pub(super) fn stop(mut self) -> Result {
        if let Some(pid) = Pid::from_raw(self.id() as i32) {
            kill_process(pid, Signal::TERM)?;
        }
        self.0.wait()?;
        Ok(())
    }

    /// How many descriptors it has open.
    pub(super) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or ends now: either is what is wanted.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

/// Starts our server with these flags; returns it and the address for its clients.
///
/// # Errors
/// It does not start.
pub(super) fn start(flags: &[&str]) -> Result<(Process, String)> {
    start_one("nano", flags)
}

/// Starts one of the servers; returns it and what it says of its address.
///
/// # Errors
/// It does not start.
pub(super) fn start_one(server: &str, flags: &[&str]) -> Result<(Process, String)> {
    let child = Command::new(std::env::current_exe()?)
        .args(["servers", server])
        .args(flags)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut server = Process(child);
    let mut line = String::new();
    if let Some(output) = server.0.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    let address = line
        .trim()
        .strip_prefix("listening on ")
        .ok_or_else(|| Error::new(code::UNAVAILABLE, "the server says no address"))?;
    Ok((server, address.to_owned()))
}

/// Puts a load with these flags on a server, and waits for its report.
///
/// # Errors
/// The load cannot connect.
pub(super) async fn load(server: &Process, address: &str, flags: &[&str]) -> Result<Report> {
    let (url, pid) = (format!("tcp://{address}"), server.id().to_string());
    let own = ["load", "--connect", &url, "--pid", &pid];
    let options = load::Options::try_parse_from(own.iter().chain(flags))
        .map_err(|error| Error::new(code::BAD_REQUEST, error.to_string()))?;
    tokio::task::spawn_blocking(move || load::run(&options)).await?
}
