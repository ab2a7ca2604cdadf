//! Tables.

use std::{fmt::Write, fs, path::Path};

use nano::Result;

use super::{
    chart,
    outcome::{Measured, Outcome},
    peer::Peer,
    scenario::Metric,
    stats::Spread,
    verdict::verdicts,
};
use crate::load::Report;

/// The first lines of the published tables.
const HEADING: &str = "# Tables\n\nWritten by `nano-bench compare --results`; [RESULTS.md](../RESULTS.md) says what they mean.\n";

/// A run in one line.
pub(crate) fn line(report: &Report) -> String {
    let cpu = report
        .server_cpu
        .map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.2} us"));
    let memory = report.memory_idle.map_or_else(
        || "-".to_owned(),
        |bytes| format!("{:.1} KiB", bytes / 1024.0),
    );
    let mut line = format!(
        "{:>9.0}/s  CPU {cpu:>9}  p50 {:>7.0}  p99 {:>7.0} us  {memory}",
        report.per_second, report.p50, report.p99
    );
    let bad = [
        ("dropped", report.dropped),
        ("corrupted", report.corrupted),
        ("errors", report.errors),
        ("lost connections", report.closed),
    ];
    for (name, count) in bad.into_iter().filter(|(_, count)| *count > 0) {
        write!(line, "  {name} {count}").unwrap_or_default();
    }
    if let Some(why) = &report.bottleneck {
        write!(line, "  (load-bound: {why})").unwrap_or_default();
    }
    line
}

/// Targets and measurements, for the terminal.
pub(crate) fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for scenario in &outcome.scenarios {
        for verdict in verdicts(outcome, scenario) {
            let Spread { min, median, max } = verdict.found;
            let met = if verdict.met { "met   " } else { "MISSED" };
            writeln!(
                text,
                "{met} {:<24} {:<40} {:<9} {median:.3} ({min:.3} .. {max:.3})",
                scenario.name, verdict.what, verdict.wanted
            )
            .unwrap_or_default();
        }
        for (baseline, (valid, cost)) in baselines(scenario) {
            let valid = if valid { "valid" } else { "NOT VALID" };
            writeln!(
                text,
                "       {:<24} {} is {valid}: {cost:.3} of Go nano's CPU",
                scenario.name,
                baseline.title()
            )
            .unwrap_or_default();
        }
    }
    text
}

pub(crate) fn markdown(outcome: &Outcome) -> String {
    let mut text = String::new();
    outcome
        .machine
        .iter()
        .for_each(|(name, value)| writeln!(text, "- {name}: {value}").unwrap_or_default());
    outcome
        .skipped
        .iter()
        .for_each(|what| writeln!(text, "- not measured: {what}").unwrap_or_default());
    targets(outcome, &mut text);
    text.push_str("\n## All scenarios\n\nMedians over the runs, with minimum and maximum in parentheses. Times are in microseconds; memory is\nKiB per idle connection.\n");
    for scenario in &outcome.scenarios {
        peers(scenario, &mut text);
    }
    text
}

fn targets(outcome: &Outcome, text: &mut String) {
    text.push_str("\n## Targets\n\n| scenario | measure | target | measured (median, min .. max) | |\n|---|---|---|---|---|\n");
    for scenario in &outcome.scenarios {
        for verdict in verdicts(outcome, scenario) {
            let Spread { min, median, max } = verdict.found;
            let met = if verdict.met { "met" } else { "**missed**" };
            writeln!(
                text,
                "| {} | {} | {} | {median:.3} ({min:.3} .. {max:.3}) | {met} |",
                scenario.name, verdict.what, verdict.wanted
            )
            .unwrap_or_default();
        }
    }
}

fn peers(scenario: &Measured, text: &mut String) {
    write!(
        text,
        "\n### {}\n\n{}.",
        scenario.name,
        capitalised(&scenario.title)
    )
    .unwrap_or_default();
    scenario
        .notes
        .iter()
        .for_each(|note| write!(text, " {}.", capitalised(note)).unwrap_or_default());
    text.push_str("\n\n| | per second | CPU per message | p50 | p99 | p99.9 | memory | lost | to Go nano: throughput, CPU |\n|---|---|---|---|---|---|---|---|---|\n");
    for (&peer, reports) in &scenario.runs {
        let of = |number: fn(&Report) -> f64, digits| {
            spread(Spread::of(reports.iter().map(number)), digits)
        };
        let ratio = |metric| {
            Spread::ratio(
                &scenario.values(peer, metric),
                &scenario.values(Peer::Go, metric),
            )
        };
        let lost = spread(scenario.spread(peer, Metric::Lost), 0);
        let against = match peer {
            Peer::Go => String::new(),
            _ => format!(
                "{}, {}",
                spread(ratio(Metric::Throughput), 2),
                spread(ratio(Metric::Cpu), 3)
            ),
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {lost} | {against} |",
            peer.title(),
            of(|report| report.per_second, 0),
            spread(scenario.spread(peer, Metric::Cpu), 2),
            of(|report| report.p50, 0),
            of(|report| report.p99, 0),
            of(|report| report.p999, 0),
            spread(scenario.spread(peer, Metric::Memory), 1),
        )
        .unwrap_or_default();
    }
    for (baseline, (valid, cost)) in baselines(scenario) {
        let valid = if valid {
            "a valid baseline"
        } else {
            "not a valid baseline"
        };
        writeln!(
            text,
            "\nThe {} costs {cost:.3} of Go nano's CPU time: {valid}.",
            baseline.title()
        )
        .unwrap_or_default();
    }
    let bound = scenario
        .runs
        .iter()
        .filter(|(_, reports)| reports.iter().any(|report| report.bottleneck.is_some()));
    bound.for_each(|(peer, _)| {
        writeln!(
            text,
            "\n{}: in some runs the load generator was the bottleneck.",
            peer.title()
        )
        .unwrap_or_default()
    });
}

fn baselines(scenario: &Measured) -> impl Iterator<Item = (Peer, (bool, f64))> {
    let baselines = scenario
        .runs
        .keys()
        .copied()
        .filter(|peer| peer.is_baseline());
    baselines.filter_map(|baseline| Some((baseline, scenario.baseline_is_valid(baseline)?)))
}

fn spread(spread: Option<Spread>, digits: usize) -> String {
    let Some(Spread { min, median, max }) = spread else {
        return "-".to_owned();
    };
    if min == max {
        format!("{median:.digits$}")
    } else {
        format!("{median:.digits$} ({min:.digits$} .. {max:.digits$})")
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// Writes the tables and the charts into a folder, which is made if it is missing.
pub(crate) fn publish(folder: &Path, outcome: &Outcome) -> Result {
    fs::create_dir_all(folder)?;
    let charts = chart::all(outcome);
    let mut text = format!("{HEADING}\n");
    for (name, _) in &charts {
        writeln!(text, "![{name}]({name})").unwrap_or_default();
    }
    writeln!(text, "\n{}", markdown(outcome).trim_end()).unwrap_or_default();
    fs::write(folder.join("tables.md"), text)?;
    for (name, svg) in charts {
        fs::write(folder.join(name), svg)?;
    }
    Ok(())
}
