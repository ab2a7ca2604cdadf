//! `nano`: looks after running nodes, and plays as a client, begins new
//! projects.
//!
//! Each command is a module. Results go to the standard output, everything else to the standard
//! error, and the exit code says how it ended: see [`failure`].

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod actions;
mod bench;
mod bots;
mod members;
mod new;
mod repl;
mod sessions;
mod top;

mod admin;
mod duration;
mod failure;
mod interrupt;
mod play;
mod table;
mod terminal;

/// Looks after running nano nodes, plays as a client, begins new projects.
#[derive(Debug, Parser)]
#[command(name = "nano", version, propagate_version = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not reachable, 4 refused (token), 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the members of a node's cluster
    Members(members::Members),
    /// Lists the sessions of a node, or shows one
    Sessions(sessions::Sessions),
    /// Kicks a session, or all sessions of a user
    Kick(actions::Kick),
    /// Takes a node out of service, and stops it
    Drain(actions::Drain),
    /// Connects to a node as a client: requests, notifies, pushes; by hand or from a script
    Repl(repl::Repl),
    /// Makes a project that builds, runs and has tests
    New(new::New),
    /// Lets many scripted players play, and reports how they fared
    Bots(bots::Bots),
    /// Measures how many requests a node answers, and how fast
    Bench(bench::Bench),
    /// Shows a node as it runs: rates, members, routes, groups, schedulers, warnings; q ends it
    Top(top::Top),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Members(members) => members.run().await,
        Command::Sessions(sessions) => sessions.run().await,
        Command::Kick(kick) => kick.run().await,
        Command::Drain(drain) => drain.run().await,
        Command::Repl(repl) => repl.run().await,
        Command::Bots(bots) => bots.run().await,
        Command::New(new) => new.run(),
        Command::Bench(bench) => bench.run().await,
        Command::Top(top) => top.run().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
