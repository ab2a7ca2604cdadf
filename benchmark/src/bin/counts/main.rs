//! How many instructions a message takes on its way through a node, which does not depend on how
//! busy the machine is.
//!
//! ```text
//! cargo run --release -p nano-bench --bin counts               # compares with counts.json, fails where it has become more
//! cargo run --release -p nano-bench --bin counts -- --bless    # writes counts.json
//! ```
//!
//! Each case runs twice under valgrind, the second time with twice as many messages, so that what
//! it takes to start cancels out. Client and nodes share one thread; the kernel's instructions are
//! not counted.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nano::{Error, Result, code};
use tokio::runtime::Builder;

mod cases;
mod client;
mod expected;
mod valgrind;
mod views;

use self::{
    cases::{Case, NAMES},
    expected::Expected,
};

/// glibc's malloc takes more or less by where its chunks lie, which random hashes and addresses decide: echo-1
/// differed by 7 % between runs of one binary. With this one no case differs by more than 0.5 %, in builds of two
/// directories.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Uncounted exchanges before the measurement, so that caches and tables are warm.
const WARM_UP: u32 = 200;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Writes what was counted instead of comparing it.
    #[arg(long)]
    bless: bool,
    /// Counts so many times, and shows the spread.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a case: what valgrind is given.
    Run { case: String, exchanges: u32 },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::Run { case, exchanges }) => run(case, *exchanges),
        None => compare(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.message());
            ExitCode::FAILURE
        }
    }
}

fn run(case: &str, exchanges: u32) -> Result {
    // A node has threads, and libc's send, recv and malloc take other paths in a process with only
    // one: this thread keeps counts comparable whatever a case starts.
    std::thread::spawn(std::thread::park);
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut case = Case::new(case).await?;
            for _ in 0..WARM_UP + exchanges {
                case.exchange().await?;
            }
            // What valgrind's caller divides by.
            println!("{}", case.messages);
            case.finish().await;
            Ok(())
        })
}

fn compare(cli: &Cli) -> Result {
    let mut expected = Expected::read()?;
    let tolerance = expected.tolerance();
    let mut worse = Vec::new();
    for name in NAMES {
        let mut counts = (0..cli.repeat)
            .map(|_| valgrind::count(name))
            .collect::<Result<Vec<_>>>()?;
        counts.sort_unstable();
        let (least, most, now) = (
            counts[0],
            counts[counts.len() - 1],
            counts[counts.len() / 2],
        );
        let before = expected.instructions.insert(name.to_owned(), now);
        let change = before.map(|before| now as f64 / before as f64 - 1.0);
        let shown = change.map_or_else(
            || "new".to_owned(),
            |change| format!("{:+.2} %", change * 100.0),
        );
        println!("{name:<14} {now:>8} instructions per message ({least} .. {most})  {shown}");
        if change.is_none_or(|change| change > tolerance) {
            worse.push(name);
        } else if change.is_some_and(|change| change < -tolerance) {
            println!(
                "{:<14} better than counts.json says: --bless keeps it so",
                ""
            );
        }
    }
    if cli.bless {
        return expected.write();
    }
    match &worse[..] {
        [] => Ok(()),
        worse => Err(Error::new(
            code::CONFLICT,
            format!(
                "more than {:.0} % above counts.json: {}",
                tolerance * 100.0,
                worse.join(", ")
            ),
        )),
    }
}
