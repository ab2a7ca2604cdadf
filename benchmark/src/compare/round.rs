//! One scenario's runs.

use std::{
    io::Read,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use nano::{Error, Result, code};

use super::{Options, peer::Peer, peers::Peers, scenario::Scenario};
use crate::load::Report;

/// How long a run may take to connect and to end, beyond its configured duration.
const SLACK: Duration = Duration::from_secs(75);
/// What a quick run takes, and what is measured of it.
const QUICK: (f64, f64) = (0.2, 0.5);

pub(crate) struct Round<'a> {
    options: &'a Options,
    peers: &'a Peers,
    scenario: &'a Scenario,
    rate: Option<f64>,
}

impl<'a> Round<'a> {
    pub(crate) fn new(options: &'a Options, peers: &'a Peers, scenario: &'a Scenario) -> Self {
        Self {
            options,
            peers,
            scenario,
            rate: None,
        }
    }

    /// Measures the rate for an open loop; returns a note about it.
    pub(crate) fn calibrate(&mut self) -> Option<String> {
        let (part, otherwise) = self.scenario.open?;
        let best = if self.peers.has(Peer::Go) {
            self.play(Peer::Go).ok().map(|report| report.per_second)
        } else {
            None
        };
        let rate = best.map_or(otherwise, |best| (best * part).round());
        self.rate = Some(rate);
        Some(match best {
            Some(best) => format!(
                "open loop at {rate:.0}/s: {:.0} % of the {best:.0}/s of Go nano in a closed loop",
                part * 100.0
            ),
            None => format!("open loop at {rate:.0}/s, without Go nano to take the rate from"),
        })
    }

    /// Starts the servers, puts the load on them, stops them.
    pub(crate) fn play(&self, peer: Peer) -> Result<Report> {
        let Scenario {
            topology,
            transport,
            connections,
            in_flight,
            ..
        } = *self.scenario;
        let running = self.peers.start(peer, topology, transport)?;
        let (warm_up, duration) = if self.options.quick {
            QUICK
        } else {
            (self.options.warm_up, self.options.duration)
        };
        let mut command = self.peers.load(peer, topology);
        for url in &running.urls {
            command.args(["--connect", url]);
        }
        for pid in running.pids() {
            command.args(["--pid", &pid.to_string()]);
        }
        command.args([
            "--connections",
            &connections.to_string(),
            "--in-flight",
            &in_flight.to_string(),
        ]);
        command.args([
            "--warm-up",
            &warm_up.to_string(),
            "--duration",
            &duration.to_string(),
            "--json",
        ]);
        command.args(&self.scenario.load);
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let mut load = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let limit = Instant::now() + Duration::from_secs_f64(warm_up + duration) + SLACK;
        let status = loop {
            if let Some(status) = load.try_wait()? {
                break status;
            }
            if Instant::now() > limit {
                load.kill()?;
                load.wait()?;
                return Err(Error::new(code::TIMEOUT, "the load did not end"));
            }
            thread::sleep(Duration::from_millis(20));
        };
        let (mut said, mut failed) = (String::new(), String::new());
        load.stdout
            .take()
            .map(|mut out| out.read_to_string(&mut said))
            .transpose()?;
        load.stderr
            .take()
            .map(|mut out| out.read_to_string(&mut failed))
            .transpose()?;
        if !status.success() {
            return Err(Error::new(code::INTERNAL, failed.trim().to_owned()));
        }
        Ok(serde_json::from_str(&said)?)
    }
}
