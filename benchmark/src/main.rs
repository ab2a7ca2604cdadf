//! Measures nano beside Go nano, and beside baselines without a framework.
// Real time is what is measured here: no test pauses it.
#![allow(clippy::disallowed_types)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nano::Result;

mod compare;
mod growth;
mod load;
mod process;
mod servers;

#[derive(Debug, Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Puts load on a server that speaks the nano protocol, and checks every answer.
    Load(load::Options),
    /// Runs one of the servers that are compared.
    #[command(subcommand)]
    Servers(servers::Server),
    /// Measures the servers in turn and compares them.
    Compare(compare::Options),
    /// Measures what members, connections, groups, users and more cost when there are many.
    Growth(growth::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result {
    match command {
        Command::Compare(options) => compare::run(&options)?,
        Command::Growth(options) => growth::run(&options)?,
        Command::Servers(server) => servers::run(server)?,
        Command::Load(options) => {
            let report = load::run(&options)?;
            if options.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                println!("{report}");
            }
        }
    }
    Ok(())
}
