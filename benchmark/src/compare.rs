//! The comparison: every server in turn, several times over, and the verdicts.

use std::{fs, path::PathBuf, time::Instant};

use clap::{Parser, ValueEnum};
use nano::{Error, Result, code};

mod chart;
mod field;
mod go;
pub(crate) mod machine;
mod npm;
mod outcome;
mod page;
mod peer;
mod peers;
mod round;
mod running;
mod scenario;
mod scenarios;
pub(crate) mod stats;
mod table;
mod verdict;

use self::{
    outcome::{Measured, Outcome},
    peer::Peer,
    peers::Peers,
    round::Round,
    scenario::Scenario,
};

#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Only scenarios whose name contains one of these; `--list` names them.
    scenarios: Vec<String>,
    /// Names the scenarios and their peers.
    #[arg(long)]
    list: bool,
    /// How often each peer is measured in each scenario.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 4.0)]
    duration: f64,
    /// How long each runs before that, in seconds.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// One short run of everything: shows that it works; the numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// Only these peers, with commas between them; otherwise all that need no broker or registry.
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Where the JSON, the table and the page go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Publishes the tables and the charts into this folder as well.
    #[arg(long)]
    results: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result {
    let wanted = |scenario: &Scenario| {
        options.scenarios.is_empty()
            || options
                .scenarios
                .iter()
                .any(|part| scenario.name.contains(part))
    };
    let scenarios: Vec<_> = scenarios::all().into_iter().filter(wanted).collect();
    if options.list {
        scenarios
            .iter()
            .for_each(|scenario| println!("{:<24} {}", scenario.name, scenario.title));
        list_peers();
        return Ok(());
    }
    if scenarios.is_empty() {
        return Err(Error::new(
            code::NOT_FOUND,
            "no such scenario: --list names them",
        ));
    }
    fs::create_dir_all(&options.out)?;
    let peers = Peers::prepare(&options.out, &options.peers)?;
    let mut outcome = Outcome::new(machine::describe());
    outcome.machine.extend(field::versions(&options.peers));
    for (peer, why) in peers.missing() {
        outcome.skip(format!("{}: {why}", peer.title()));
    }
    let begun = Instant::now();
    let count = scenarios.len();
    for (index, scenario) in scenarios.iter().enumerate() {
        eprintln!(
            "[{}/{count}, {:.0} s] {}: {}",
            index + 1,
            begun.elapsed().as_secs_f64(),
            scenario.name,
            scenario.title
        );
        let measured = measure(options, &peers, scenario, &mut outcome);
        outcome.scenarios.push(measured);
        // After each, so that an interrupted comparison leaves what it has.
        write(options, &outcome)?;
    }
    println!("{}", table::summary(&outcome));
    eprintln!(
        "{} s; written to {}",
        begun.elapsed().as_secs(),
        options.out.display()
    );
    match outcome.failed {
        0 => Ok(()),
        failed => Err(Error::new(
            code::UNAVAILABLE,
            format!("{failed} runs failed"),
        )),
    }
}

fn list_peers() {
    let names = |optional| {
        let peers = Peer::value_variants().iter();
        let peers = peers.filter(|peer| peer.is_optional() == optional);
        let names = peers.filter_map(|peer| Some(peer.to_possible_value()?.get_name().to_owned()));
        names.collect::<Vec<_>>().join(" ")
    };
    println!("\npeers: {}; only if named: {}", names(false), names(true));
}

fn measure(
    options: &Options,
    peers: &Peers,
    scenario: &Scenario,
    outcome: &mut Outcome,
) -> Measured {
    let mut measured = Measured::new(scenario);
    let chosen = |peer: &Peer| {
        let named = options.peers.contains(peer);
        peers.has(*peer) && (named || options.peers.is_empty() && !peer.is_optional())
    };
    let candidates: Vec<_> = scenario.peers.iter().copied().filter(chosen).collect();
    let mut round = Round::new(options, peers, scenario);
    if let Some(why) = round.calibrate() {
        eprintln!("    {why}");
        measured.notes.push(why);
    }
    for run in 1..=if options.quick { 1 } else { options.runs } {
        for &peer in &candidates {
            match round.play(peer) {
                Ok(report) => {
                    eprintln!(
                        "    run {run}, {:<12} {}",
                        peer.title(),
                        table::line(&report)
                    );
                    measured.add(peer, report);
                }
                Err(error) => {
                    eprintln!("    run {run}, {:<12} FAILED: {error}", peer.title());
                    outcome.failed += 1;
                    outcome.skip(format!(
                        "{}, {}, run {run}: {error}",
                        scenario.name,
                        peer.title()
                    ));
                }
            }
        }
    }
    measured
}

fn write(options: &Options, outcome: &Outcome) -> Result {
    fs::write(
        options.out.join("results.json"),
        serde_json::to_string_pretty(outcome)?,
    )?;
    fs::write(options.out.join("results.md"), table::markdown(outcome))?;
    fs::write(options.out.join("index.html"), page::html(outcome))?;
    if let Some(results) = &options.results {
        table::publish(results, outcome)?;
    }
    Ok(())
}
