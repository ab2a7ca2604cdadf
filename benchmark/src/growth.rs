//! Cost growth: what a thing costs when there are many of it.
//!
//! Every point of a curve is measured in a process of its own, so that the memory of one is not in the
//! figures of the next.

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

use clap::Parser;
use nano::{Error, Result, code};
use tokio::runtime::Builder;

use crate::{
    compare::{machine, stats::Spread},
    process,
};

mod channels;
mod chart;
mod connections;
mod curve;
mod directory;
mod groups;
mod handover;
mod members;
mod nodes;
pub(crate) mod readers;
mod schedulers;
mod server;
mod slots;
mod stalled;
mod table;
mod timers;
mod usage;
mod users;

use self::curve::{CURVES, Curve, Measure, Measured, Point};

#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Only these curves; `--list` names them.
    curves: Vec<String>,
    /// Names the curves and their sizes.
    #[arg(long)]
    list: bool,
    /// How often each point is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// The two smallest sizes of each curve, once: shows that it works; the numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// These sizes instead of the curve's own.
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<usize>,
    /// Where the tables and the charts go.
    #[arg(long, default_value = "target/bench/growth")]
    out: PathBuf,
    /// Measures one size of the curve in this process, and prints it as JSON.
    #[arg(long, hide = true)]
    point: Option<usize>,
}

pub(crate) fn run(options: &Options) -> Result {
    let unknown = |name: &&String| !CURVES.iter().any(|curve| curve.name == **name);
    if let Some(name) = options.curves.iter().find(unknown) {
        return Err(Error::new(
            code::NOT_FOUND,
            format!("no curve is called {name}: --list names them"),
        ));
    }
    let wanted = |curve: &&Curve| {
        options.curves.is_empty() || options.curves.iter().any(|name| name == curve.name)
    };
    let curves: Vec<&Curve> = CURVES.iter().filter(wanted).collect();
    if options.list {
        for curve in curves {
            println!("{:<12} {} {:?}", curve.name, curve.title, curve.sizes);
        }
        return Ok(());
    }
    match (options.point, &*curves) {
        (Some(size), [curve]) => here(curve, size),
        (Some(_), _) => Err(Error::new(code::BAD_REQUEST, "a point has one curve")),
        (None, _) => all(options, &curves),
    }
}

/// Measures one point in this process.
fn here(curve: &Curve, size: usize) -> Result {
    process::raise_file_limit();
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let point = runtime.block_on((curve.measure)(size))?;
    println!("{}", serde_json::to_string(&point)?);
    // What is still open ends with the process.
    runtime.shutdown_background();
    Ok(())
}

/// Measures all points, each in a process of its own.
fn all(options: &Options, curves: &[&Curve]) -> Result {
    fs::create_dir_all(&options.out)?;
    let mut measured = Vec::new();
    for curve in curves {
        let mut result = Measured::new(curve);
        for &size in sizes(options, curve) {
            let mut runs: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            let mut measures: Vec<Measure> = Vec::new();
            for _ in 0..if options.quick { 1 } else { options.runs } {
                measures = elsewhere(curve, size)?.0;
                for (at, measure) in measures.iter().enumerate() {
                    runs.entry(at).or_default().push(measure.value);
                }
            }
            for (at, measure) in measures.iter_mut().enumerate() {
                let values = runs.remove(&at).unwrap_or_default();
                measure.value = Spread::of(values).map_or(0.0, |spread| spread.median);
            }
            eprintln!("{:<12} {size:>9}  {}", curve.name, table::line(&measures));
            result.points.push((size, measures));
        }
        fs::write(
            options.out.join(format!("growth-{}.svg", curve.name)),
            chart::svg(&result),
        )?;
        measured.push(result);
        // After each, so that an interrupted run leaves what it has.
        fs::write(
            options.out.join("growth.md"),
            table::markdown(&measured, &machine::describe()),
        )?;
    }
    eprintln!("written to {}", options.out.display());
    Ok(())
}

fn sizes<'a>(options: &'a Options, curve: &'a Curve) -> &'a [usize] {
    match (options.quick, &*options.sizes) {
        (true, _) => &curve.sizes[..2],
        (false, []) => curve.sizes,
        (false, sizes) => sizes,
    }
}

fn elsewhere(curve: &Curve, size: usize) -> Result<Point> {
    let output = Command::new(env::current_exe()?)
        .args(["growth", curve.name, "--point", &size.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(Error::new(
            code::UNAVAILABLE,
            format!(
                "{} of size {size}: {}",
                curve.name,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        ));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_curve_measures_its_smallest_size() {
        // Those start this program as a server, which a test is not: `tests/growth.rs` has two of them.
        let servers = ["connections", "stalled", "directory", "handover"];
        let is_server = |curve: &&Curve| servers.iter().any(|name| curve.name.starts_with(name));
        let curves = CURVES.iter().filter(|curve| !is_server(curve));
        // At the same time, as each of them mostly waits; they disturb only how much is measured.
        let measured = curves.map(async |curve| {
            let point = (curve.measure)(curve.sizes[0]).await.unwrap();
            assert!(!point.0.is_empty(), "{}", curve.name);
            for measure in point.0 {
                assert!(measure.value.is_finite(), "{}: {measure:?}", curve.name);
            }
        });
        futures_util::future::join_all(measured).await;
    }
}
