//! The flags of `load`.

use std::{str::FromStr, time::Duration};

use clap::{Parser, ValueEnum};

use super::{game::BYSTANDERS, target::Target};

#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// Where to connect: `tcp://127.0.0.1:3250`, `tls://...`, `ws://127.0.0.1:3250/nano`,
    /// `wss://...`; with several, clients take them in turn. `due://...` speaks the protocol of due,
    /// whose routes are numbers (`--alias`); it has requests only.
    #[arg(long, required = true)]
    pub(crate) connect: Vec<Target>,
    /// What the clients do.
    #[arg(long, value_enum, default_value_t = Scenario::Echo)]
    pub(crate) scenario: Scenario,
    /// How many clients.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Closed loop: how many requests of each client, or broadcasts, are on their way at any time.
    #[arg(long, default_value_t = 1)]
    pub(crate) in_flight: usize,
    /// Open loop: requests a second, of all clients together, each counted from when it should have
    /// been sent; for a game, updates a second of each.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Length of a body in bytes, at least 16.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Bodies are JSON, which the server reads and writes (`PB.Echo`).
    #[arg(long)]
    pub(crate) json_body: bool,
    /// The route of requests.
    #[arg(long)]
    route: Option<String>,
    /// What the server calls one of our routes, as in `Echo.Echo=game.Echo.Echo`.
    #[arg(long)]
    alias: Vec<Alias>,
    /// The clients ask for sessions that can be resumed, and acknowledge what comes.
    #[arg(long)]
    pub(crate) resume: bool,
    /// How many rooms a game has.
    #[arg(long, default_value_t = 50)]
    pub(crate) rooms: usize,
    /// How long it runs before it is measured.
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub(crate) warm_up: Duration,
    /// How long it is measured, in seconds.
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// Threads of the load; broadcasts and games use one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Processes of the server, whose CPU time and memory are measured.
    #[arg(long)]
    pub(crate) pid: Vec<u32>,
    /// Prints the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Every answer is in the report, with its time: for what this program looks for in it.
    #[arg(skip)]
    pub(crate) keep_samples: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Requests and their answers.
    Echo,
    /// Notifies, each answered by a push.
    Push,
    /// Requests and such notifies in turn.
    Mixed,
    /// One client speaks, all hear it.
    Broadcast,
    /// Clients that only stay connected.
    Idle,
    /// Clients that connect, ask one thing and leave.
    Storm,
    /// Players in rooms that move all the time.
    Game,
}

impl Options {
    pub(crate) fn threads(&self) -> usize {
        let alone = matches!(self.scenario, Scenario::Broadcast | Scenario::Game);
        if alone {
            1
        } else {
            usize::from(self.threads).min(self.connections())
        }
    }

    /// All clients, those beside the players included.
    pub(crate) fn connections(&self) -> usize {
        self.connections as usize
            + if self.scenario == Scenario::Game {
                BYSTANDERS
            } else {
                0
            }
    }

    /// The route of requests.
    pub(crate) fn route(&self) -> &str {
        let default = if self.json_body {
            "PB.Echo"
        } else {
            "Echo.Echo"
        };
        self.alias(self.route.as_deref().unwrap_or(default))
    }

    /// The server's name of a route.
    pub(crate) fn alias<'a>(&'a self, route: &'a str) -> &'a str {
        let alias = self.alias.iter().find(|alias| alias.ours == route);
        alias.map_or(route, |alias| &alias.theirs)
    }
}

/// A route of ours and the server's name of it.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    ours: String,
    theirs: String,
}

impl FromStr for Alias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ours, theirs) = text
            .split_once('=')
            .ok_or_else(|| format!("not two routes with = between them: {text}"))?;
        Ok(Self {
            ours: ours.to_owned(),
            theirs: theirs.to_owned(),
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .trim_end_matches('s')
        .parse()
        .map_err(|_| format!("not a number of seconds: {text}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
