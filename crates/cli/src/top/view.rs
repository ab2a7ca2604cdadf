//! The picture of a node, from two looks at it; no I/O.

use std::time::Duration;

use serde_json::Value;

use super::sample::{Route, Sample};
use crate::{
    duration::{latency, short},
    members,
    table::{
        Column::{Number, Text},
        Table, bytes, cell, count, printable,
    },
};

/// A line of the picture.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) style: Style,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Style {
    Plain,
    Head,
    Bad,
}

impl Line {
    pub(super) fn bad(text: String) -> Self {
        Self {
            text: printable(&text),
            style: Style::Bad,
        }
    }

    fn plain(text: String) -> Self {
        Self {
            text,
            style: Style::Plain,
        }
    }
}

/// All that could be shown, in the order of the picture.
#[derive(Debug)]
pub(super) struct View {
    summary: Vec<Line>,
    sections: Vec<Section>,
}

/// A table that may be cut to the height of the terminal.
#[derive(Debug)]
struct Section {
    head: String,
    rows: Vec<Line>,
}

impl View {
    pub(super) fn new(before: &Sample, now: &Sample) -> Self {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
        let rate = |name: &str, of: fn(&Route) -> u64| {
            let before = before.routes.get(name).map_or(0, of);
            now.routes.get(name).map_or(0, of).saturating_sub(before) as f64 / seconds
        };
        let mut routes: Vec<_> = now
            .routes
            .iter()
            .filter(|(_, route)| route.handled > 0)
            .map(|(name, route)| {
                (
                    rate(name, |it| it.handled),
                    rate(name, |it| it.failed),
                    name,
                    route,
                )
            })
            .collect();
        routes.sort_by(|a, b| {
            b.0.total_cmp(&a.0)
                .then_with(|| b.3.handled.cmp(&a.3.handled))
        });
        let (all, failed) = routes.iter().fold((0.0, 0.0), |(all, failed), route| {
            (all + route.0, failed + route.1)
        });
        let per_second =
            |of: fn(&Sample) -> u64| of(now).saturating_sub(of(before)) as f64 / seconds;
        let rates = Rates {
            requests: per_second(|sample| sample.requests.answered),
            forwarded: per_second(|sample| sample.requests.forwarded),
            handled: all,
            failed,
        };
        Self {
            summary: summary(now, &rates),
            sections: vec![
                section(&members::table(&now.members, false), |line| {
                    [" broken ", " suspect "]
                        .iter()
                        .any(|state| line.contains(state))
                }),
                section(&routes_table(&routes), |_| false),
                schedulers(before, now, seconds),
                warnings(now),
            ],
        }
    }

    /// The picture in at most so many lines. `fault` is why the node did not answer, and since when.
    pub(super) fn lines(&self, rows: usize, fault: Option<&(String, Duration)>) -> Vec<Line> {
        let fault = fault.map(|(fault, since)| {
            let since = short(since.as_secs_f64());
            Line::bad(format!("last answer {since} ago: {fault}"))
        });
        let mut lines: Vec<Line> = fault.into_iter().collect();
        lines.extend(self.summary.iter().map(|line| Line {
            text: line.text.clone(),
            ..*line
        }));
        let sections = self
            .sections
            .iter()
            .filter(|section| !section.rows.is_empty());
        let sections: Vec<_> = sections.collect();
        // Each section has a blank line and a head; they share what is left, the first ones get what
        // later ones do not use.
        let mut left = rows.saturating_sub(lines.len());
        for (at, section) in sections.iter().enumerate() {
            let share = left / (sections.len() - at);
            let wanted_later: usize = sections[at + 1..].iter().map(|it| it.rows.len() + 2).sum();
            let size = (section.rows.len() + 2).min(share.max(left.saturating_sub(wanted_later)));
            if size < 3 {
                continue;
            }
            lines.push(Line::plain(String::new()));
            lines.push(Line {
                text: section.head.clone(),
                style: Style::Head,
            });
            let shown = section.rows.iter().take(size - 2);
            lines.extend(shown.map(|line| Line {
                text: line.text.clone(),
                ..*line
            }));
            left -= size;
        }
        lines
    }
}

fn section(table: &Table, bad: impl Fn(&str) -> bool) -> Section {
    let mut lines = table.lines().into_iter();
    let head = lines.next().unwrap_or_default();
    let rows = lines.map(|text| Line {
        style: if bad(&text) { Style::Bad } else { Style::Plain },
        text,
    });
    Section {
        head,
        rows: rows.collect(),
    }
}

/// Per second.
struct Rates {
    requests: f64,
    forwarded: f64,
    handled: f64,
    failed: f64,
}

fn summary(now: &Sample, rates: &Rates) -> Vec<Line> {
    let (node, queues) = (&now.node, &now.queues);
    let missing = node["missing"].as_array().into_iter().flatten();
    let missing: Vec<_> = missing.map(cell).collect();
    let ready = missing.is_empty();
    let state = match ready {
        true => "ready".to_owned(),
        false => format!("NOT READY: {}", missing.join(", ")),
    };
    let text = format!(
        "{}  {}  {state}  up {}  version {}",
        cell(&node["name"]),
        cell(&node["role"]),
        short(node["uptime_seconds"].as_f64().unwrap_or_default()),
        cell(&node["version"]),
    );
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let sessions = &node["sessions"];
    let seconds = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), latency);
    let second = format!(
        "sessions {} here, {} of other gates   requests/s {:.0} (p50 {}, p99 {}), {} in flight",
        count(number(&sessions["local"])),
        count(number(&sessions["remote"])),
        rates.requests,
        seconds(now.requests.p50),
        seconds(now.requests.p99),
        count(number(&queues["client_requests"])),
    );
    let third = format!(
        "handled/s {:.0}, failed/s {:.0}, forwarded/s {:.0}   queued {} tasks, {} to clients, {} to members",
        rates.handled,
        rates.failed,
        rates.forwarded,
        count(number(&queues["scheduler_tasks"])),
        bytes(number(&queues["client_bytes"])),
        bytes(number(&queues["cluster_bytes"])),
    );
    let first = match ready {
        true => Line {
            text: printable(&text),
            style: Style::Head,
        },
        false => Line::bad(text),
    };
    vec![first, Line::plain(second), Line::plain(third)]
}

fn routes_table(routes: &[(f64, f64, &String, &Route)]) -> Table {
    let mut table = Table::new(&[
        Text("ROUTE"),
        Number("MESSAGES/S"),
        Number("FAILED/S"),
        Number("ALL"),
        Number("QUEUE P99"),
        Number("HANDLER P50"),
        Number("P99"),
    ]);
    let seconds = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), latency);
    for (rate, failed, name, route) in routes {
        table.row([
            (*name).clone(),
            format!("{rate:.0}"),
            format!("{failed:.0}"),
            count(route.handled),
            seconds(route.queue_p99),
            seconds(route.handler_p50),
            seconds(route.handler_p99),
        ]);
    }
    table
}

fn schedulers(before: &Sample, now: &Sample, seconds: f64) -> Section {
    let list = |sample: &Sample| {
        sample.schedulers["schedulers"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let earlier = list(before);
    let mut table = Table::new(&[
        Text("SCHEDULER"),
        Number("WAITING"),
        Number("BUSY"),
        Number("LONGEST TURN"),
        Text("HELD BY"),
    ]);
    for scheduler in list(now) {
        let same = earlier
            .iter()
            .find(|other| other["name"] == scheduler["name"]);
        let busy = |scheduler: &Value| scheduler["busy_seconds"].as_f64().unwrap_or_default();
        let busy = same
            .map_or(0.0, |same| busy(&scheduler) - busy(same))
            .max(0.0)
            / seconds;
        let held = &scheduler["held"];
        let held = match held["running_ms"].as_u64() {
            None => String::new(),
            Some(ms) => format!("{} for {}", cell(&held["route"]), latency(ms as f64 / 1e3)),
        };
        table.row([
            cell(&scheduler["name"]),
            count(scheduler["waiting"].as_u64().unwrap_or_default()),
            format!("{:.0} %", (busy * 100.0).min(100.0)),
            latency(scheduler["longest_turn_ms"].as_f64().unwrap_or_default() / 1e3),
            held,
        ]);
    }
    section(&table, |line| line.ends_with('s') && line.contains(" for "))
}

fn warnings(now: &Sample) -> Section {
    let list = now
        .warnings
        .as_ref()
        .and_then(|it| it["warnings"].as_array());
    let rows = list.into_iter().flatten().map(|warning| {
        let fields = warning["fields"].as_str().unwrap_or_default();
        let text = format!("{} {fields}", cell(&warning["message"]));
        Line {
            text: printable(&text),
            style: match warning["level"].as_str() {
                Some("error") => Style::Bad,
                _ => Style::Plain,
            },
        }
    });
    Section {
        head: "WARNINGS, the newest first".to_owned(),
        rows: rows.collect(),
    }
}
