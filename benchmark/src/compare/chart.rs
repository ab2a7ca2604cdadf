//! Bar charts, as SVG. Widths are logarithmic: what is compared differs by up to a hundred times.

use std::fmt::Write;

use super::{outcome::Outcome, peer::Peer, scenario::Metric, stats::Spread};

const LABELS: f64 = 190.0;
const BARS: f64 = 470.0;
const WIDTH: f64 = LABELS + BARS + 110.0;
const BAR: f64 = 13.0;
const GAP: f64 = 12.0;
const HEAD: f64 = 44.0;
/// Peers in a line of the legend, and the height of one.
const LEGEND: usize = 6;
const LEGEND_LINE: f64 = 14.0;

/// The charts with the names of their files.
pub(crate) fn all(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let charts = [
        (
            "throughput.svg",
            "Messages per second (more is better; logarithmic)",
            Metric::Throughput,
        ),
        (
            "cpu.svg",
            "Server CPU time per message, us (less is better; logarithmic)",
            Metric::Cpu,
        ),
        (
            "p99.svg",
            "99th percentile of the latency, us (less is better; logarithmic)",
            Metric::P99,
        ),
        (
            "memory.svg",
            "Memory of the server for each idle connection, KiB (less is better; logarithmic)",
            Metric::Memory,
        ),
    ];
    charts
        .into_iter()
        .filter_map(|(name, title, metric)| Some((name, chart(outcome, title, metric)?)))
        .collect()
}

/// `None` if nothing was measured.
fn chart(outcome: &Outcome, title: &str, metric: Metric) -> Option<String> {
    let rows: Vec<(&str, Vec<(Peer, Spread)>)> = outcome
        .scenarios
        .iter()
        // Memory is what the idle scenarios are for, and they show nothing else.
        .filter(|scenario| scenario.name.starts_with("idle") == (metric == Metric::Memory))
        .map(|scenario| {
            let bars = scenario
                .runs
                .keys()
                .filter_map(|&peer| Some((peer, scenario.spread(peer, metric)?)));
            (
                &*scenario.name,
                bars.filter(|(_, spread)| spread.median > 0.0).collect(),
            )
        })
        .filter(|(_, bars): &(_, Vec<_>)| !bars.is_empty())
        .collect();
    let values = || {
        rows.iter()
            .flat_map(|(_, bars)| bars)
            .map(|(_, spread)| spread)
    };
    let least = Spread::of(values().map(|spread| spread.min.max(spread.median / 10.0)))?.min / 2.0;
    let most = Spread::of(values().map(|spread| spread.max))?.max;
    let x = |value: f64| {
        LABELS + BARS * ((value.max(least) / least).ln() / (most / least).ln()).clamp(0.0, 1.0)
    };

    let (legend, lines) = legend(outcome);
    let mut body = String::new();
    let mut y = HEAD + LEGEND_LINE * lines.saturating_sub(1) as f64;
    for (name, bars) in &rows {
        let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
        writeln!(
            body,
            r#"<text x="{:.0}" y="{middle:.1}" text-anchor="end">{name}</text>"#,
            LABELS - 8.0
        )
        .ok()?;
        for (peer, spread) in bars {
            let (end, text, whisker) = (x(spread.median), y + BAR - 3.0, y + BAR / 2.0 - 0.5);
            let (from, to) = (x(spread.min), x(spread.max));
            let colour = colour(*peer);
            writeln!(
                body,
                r#"<rect x="{LABELS}" y="{y:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>"#,
                end - LABELS,
                BAR - 2.0
            )
            .ok()?;
            writeln!(
                body,
                r##"<path d="M{from:.1} {whisker:.1}H{to:.1}" stroke="#222" stroke-opacity=".6"/>"##
            )
            .ok()?;
            writeln!(
                body,
                r#"<text x="{:.1}" y="{text:.1}">{}</text>"#,
                to + 5.0,
                number(spread.median)
            )
            .ok()?;
            y += BAR;
        }
        y += GAP;
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" width=\"{WIDTH}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"8\" y=\"16\" font-size=\"14\">{title}</text>\n{legend}{body}</svg>\n"
    ))
}

/// The legend and how many lines it has.
fn legend(outcome: &Outcome) -> (String, usize) {
    let mut peers: Vec<Peer> = outcome
        .scenarios
        .iter()
        .flat_map(|scenario| scenario.runs.keys().copied())
        .collect();
    peers.sort_unstable();
    peers.dedup();
    let entries = peers.iter().enumerate().map(|(index, peer)| {
        let x = 8 + 110 * (index % LEGEND);
        let y = 24.0 + LEGEND_LINE * (index / LEGEND) as f64;
        let (colour, title) = (colour(*peer), peer.title());
        format!("<rect x=\"{x}\" y=\"{y:.0}\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"{:.0}\">{title}</text>\n", x + 14, y + 9.0)
    });
    (entries.collect(), peers.len().div_ceil(LEGEND))
}

fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Nano => "#d9541e",
        Peer::Go => "#2a9fd6",
        Peer::Bare => "#c9c9c9",
        Peer::Hop => "#9a9a9a",
        Peer::Strand => "#b3a58f",
        Peer::Stream => "#7d7d7d",
        Peer::Pitaya => "#3f9b57",
        Peer::Cherry => "#b0416b",
        Peer::Pomelo => "#7a5cb8",
        Peer::Due => "#a8862b",
    }
}

fn number(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e4.. => format!("{:.0} k", value / 1e3),
        1e2.. => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}
