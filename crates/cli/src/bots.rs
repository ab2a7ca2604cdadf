//! `nano bots`: many scripted players, and a report of how they fared.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    duration,
    failure::Failure,
    interrupt::interrupted,
    play::{Connect, allow_open_files},
    table::{count, counted, print, print_json},
    terminal,
};
use player::Player;
use script::{MAX_PLAYERS, Script};
use tally::Tally;
use value::fill_text;

mod player;
mod report;
mod script;
mod tally;
mod value;

/// The arguments of the command.
#[derive(Args, Debug)]
pub(crate) struct Bots {
    /// What the players do, a TOML file
    script: PathBuf,
    /// Where they connect, instead of the script's `url`
    #[arg(long)]
    url: Option<String>,
    /// How many players, instead of the script's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PLAYERS)))]
    players: Option<u32>,
    /// Over which time they start, instead of the script's
    #[arg(long, value_parser = duration::parse)]
    ramp: Option<Duration>,
    /// After which time all end, instead of the script's
    #[arg(long, value_parser = duration::parse_positive)]
    time: Option<Duration>,
    #[command(flatten)]
    connect: Connect,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
}

impl Bots {
    /// # Errors
    /// The script is not valid, no player could connect, the run did not hold the script's limits or
    /// was interrupted.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let mut script = Script::load(&self.script).map_err(Failure::Usage)?;
        if let Some(url) = &self.url {
            script.url.clone_from(url);
        }
        if script.url.is_empty() {
            let message = "the script has no `url`, and --url is missing";
            return Err(Failure::Usage(message.to_owned()));
        }
        // Addresses with values of answers are known later.
        if let Ok(url) = fill_text(&script.url, &Player::variables(0)) {
            self.connect.check(&url)?;
        }
        script.players.count = self.players.unwrap_or(script.players.count);
        script.players.ramp = self.ramp.unwrap_or(script.players.ramp);
        script.players.time = self.time.unwrap_or(script.players.time);
        allow_open_files(script.players.count);

        let (script, tally) = (Arc::new(script), Arc::new(Tally::default()));
        let begun = Instant::now();
        let played = self.play(&script, &tally, begun);
        let interrupted = tokio::select! {
            () = played => false,
            () = progress(&tally, &script, begun) => false,
            () = interrupted() => true,
        };
        let report = tally.report(begun.elapsed(), &script.limits);
        match self.json {
            true => print_json(&report.json())?,
            false => report.lines().iter().try_for_each(|line| print(line))?,
        }
        match report.broken() {
            _ if interrupted => Err(Failure::Interrupted),
            [] => Ok(()),
            broken => Err(tally
                .unconnected()
                .unwrap_or_else(|| Failure::Failed(broken.join("; ")))),
        }
    }

    /// Starts the players evenly over the ramp, and waits until all have ended or the time is over.
    async fn play(&self, script: &Arc<Script>, tally: &Arc<Tally>, begun: Instant) {
        let players = &script.players;
        let end = begun + players.time;
        let mut running = JoinSet::new();
        for number in 0..players.count {
            let share = players
                .ramp
                .mul_f64(f64::from(number) / f64::from(players.count));
            sleep_until((begun + share).min(end)).await;
            if Instant::now() >= end {
                break;
            }
            let player = Player::new(number, script.clone(), self.connect.clone(), tally.clone());
            running.spawn(player.play());
            while running.try_join_next().is_some() {}
        }
        let all = async { while running.join_next().await.is_some() {} };
        // Those that still play are neither finished nor lost.
        let _ = tokio::time::timeout_at(end, all).await;
    }
}

/// Shows how far the run is, once a second; never completes.
async fn progress(tally: &Tally, script: &Script, begun: Instant) {
    if !io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let _erase = Erase;
    loop {
        ticks.tick().await;
        let now = tally.progress();
        let total = u64::from(script.players.count);
        let done = (now.ended * 20 / total.max(1)).min(20) as usize;
        let line = format!(
            "{} [{}{}] {} playing, {} of {} ended, {}, {} failed",
            duration::short(begun.elapsed().as_secs_f64()),
            "#".repeat(done),
            ".".repeat(20 - done),
            count(now.started - now.ended),
            count(now.ended),
            count(total),
            counted(now.steps, "step"),
            count(now.failed),
        );
        // A line that went on in the next row could not be replaced.
        let columns = terminal::size(&io::stderr()).map_or(80, |(columns, _)| columns);
        let line: String = line.chars().take(columns - 1).collect();
        eprint!("\r{line}\x1b[K");
        // There is no progress to show where this fails.
        let _ = io::stderr().flush();
    }
}

/// Removes the line of the progress, which has no place in a report.
struct Erase;

impl Drop for Erase {
    fn drop(&mut self) {
        eprint!("\r\x1b[K");
    }
}
