//! The picture of a node, from two looks at it; no I/O.

use std::time::Duration;

use serde_json::Value;

use super::sample::{Forwarded, Groups, Route, Sample};
use crate::{
    duration::{latency, short},
    members,
    table::{
        Column::{Number, Text},
        Table, bytes, cell, count, counted, printable,
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
                section(&members::table(&now.members, true), |line| {
                    [" broken ", " suspect "]
                        .iter()
                        .any(|state| line.contains(state))
                }),
                section(&routes_table(&routes), |_| false),
                section(&forwarded_table(&now.forwarded), |_| false),
                section(&groups_table(&now.groups), |_| false),
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
    let version = node["version"].as_str();
    let version = version.map_or_else(String::new, |version| format!("  version {version}"));
    let text = format!(
        "{}  {}  {state}  up {}{version}  nano {}",
        cell(&node["name"]),
        cell(&node["role"]),
        short(node["uptime_seconds"].as_f64().unwrap_or_default()),
        cell(&node["library_version"]),
    );
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let sessions = &node["sessions"];
    let seconds = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), latency);
    let [cores, memory] = members::usage(&node["load"]);
    // Each of them in 80 columns.
    let more = [
        format!(
            "sessions {} here, {} of other gates   groups {}",
            count(number(&sessions["local"])),
            count(number(&sessions["remote"])),
            count(now.groups.total),
        ),
        format!(
            "requests/s {:.0} (p50 {}, p99 {}), {} in flight",
            rates.requests,
            seconds(now.requests.p50),
            seconds(now.requests.p99),
            count(number(&queues["client_requests"])),
        ),
        format!(
            "handled/s {:.0}, failed/s {:.0}, forwarded/s {:.0}   cpu {cores}, {memory}",
            rates.handled, rates.failed, rates.forwarded,
        ),
        format!(
            "queued {}, {} to clients, {} to members",
            counted(number(&queues["scheduler_tasks"]), "task"),
            bytes(number(&queues["client_bytes"])),
            bytes(number(&queues["cluster_bytes"])),
        ),
    ];
    let first = match ready {
        true => Line {
            text: printable(&text),
            style: Style::Head,
        },
        false => Line::bad(text),
    };
    let more = more.map(Line::plain);
    [first].into_iter().chain(more).collect()
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

/// The slowest first.
fn forwarded_table(forwarded: &[Forwarded]) -> Table {
    let mut table = Table::new(&[
        Text("FORWARDED TO OTHER MEMBERS"),
        Number("ANSWER P50"),
        Number("P90"),
        Number("P99"),
    ]);
    let mut forwarded: Vec<_> = forwarded.iter().collect();
    forwarded.sort_by(|a, b| b.p99.total_cmp(&a.p99));
    for route in forwarded {
        table.row([
            route.route.clone(),
            latency(route.p50),
            latency(route.p90),
            latency(route.p99),
        ]);
    }
    table
}

fn groups_table(groups: &Groups) -> Table {
    let mut table = Table::new(&[Text("GROUP"), Number("MEMBERS HERE")]);
    for (name, members) in &groups.groups {
        let name = match name.as_str() {
            "" => "without a name",
            name => name,
        };
        table.row([name.to_owned(), count(*members)]);
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
        let long = &scheduler["long_tasks"][0];
        let time = |milliseconds: u64| latency(milliseconds as f64 / 1e3);
        let held = match (held["running_ms"].as_u64(), long["longest_ms"].as_u64()) {
            (Some(running), _) => format!("{} for {}", cell(&held["route"]), time(running)),
            (None, Some(took)) => {
                let ago = long["last_ago_ms"].as_u64().unwrap_or_default();
                format!(
                    "{} took {}, {} ago",
                    cell(&long["route"]),
                    time(took),
                    time(ago)
                )
            }
            (None, None) => String::new(),
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
        let mut text = format!("{} {fields}", cell(&warning["message"]));
        if let Some(more @ 1..) = warning["held_back"].as_u64() {
            text += &format!(" (and {} held back)", counted(more, "line"));
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::top::sample::Requests;

    fn busy_node() -> Sample {
        let rows = |row: fn(u32) -> Value| (0..10).map(row).collect::<Vec<_>>();
        let route = || Route {
            handled: 1_234_567,
            queue_p99: Some(0.0123),
            ..Route::default()
        };
        let forwarded = |number| Forwarded {
            route: format!("Far.Route{number}"),
            p50: 0.001,
            p90: 0.002,
            p99: 0.003 * f64::from(number),
        };
        Sample {
            at: Instant::now(),
            node: json!({
                "name": "127.0.0.1:4211", "role": "member", "missing": [], "version": "1.2.3",
                "library_version": "1.2.3",
                "load": {"cores": 12.34, "cores_available": 64, "memory_bytes": 1_023_000_000},
                "uptime_seconds": 1e6, "sessions": {"local": 12_345, "remote": 12_345},
            }),
            members: json!({"members": rows(|number| json!({
                "address": format!("10.0.0.{number}:3250"), "label": "gate", "role": "member",
            }))}),
            queues: json!({
                "client_requests": 12_345, "scheduler_tasks": 123_456, "client_bytes": 1_023_000_000,
                "cluster_bytes": 1_023_000_000,
            }),
            schedulers: json!({"schedulers": rows(|number| json!({"name": format!("s{number}")}))}),
            requests: Requests {
                answered: 0,
                p50: Some(0.00125),
                p99: Some(0.0125),
                forwarded: 0,
            },
            routes: (0..10)
                .map(|number| (format!("Near.Route{number}"), route()))
                .collect(),
            forwarded: (0..10).map(forwarded).collect(),
            groups: Groups::new(&json!({"total": 1234, "groups": rows(|number| json!({
                "group": if number == 0 { String::new() } else { format!("table {number}") },
                "members": if number == 0 { 700 } else { number },
            }))})),
            warnings: Some(json!({"warnings": rows(|_| json!({
                "message": "request timed out", "fields": "session=7", "held_back": 12,
            }))})),
        }
    }

    #[test]
    fn a_small_terminal_shows_all_that_there_is() {
        let mut later = busy_node();
        later.at += Duration::from_secs(1);
        later.requests.answered = 123_456;
        later.requests.forwarded = 123_456;
        let view = View::new(&busy_node(), &later);
        let fault = ("no answer".to_owned(), Duration::from_secs(1));
        let [lines, faulty] = [None, Some(&fault)].map(|fault| view.lines(24, fault));
        assert_eq!((lines.len(), faulty.len()), (24, 24), "{faulty:#?}");
        let starts = |start: &str| {
            let found = lines.iter().position(|line| line.text.starts_with(start));
            found.unwrap_or_else(|| panic!("no {start:?} in {lines:#?}"))
        };
        for head in ["ADDRESS ", "ROUTE ", "SCHEDULER ", "WARNINGS"] {
            starts(head);
        }
        starts("request timed out session=7 (and 12 lines held back)");
        // The slowest and the largest.
        assert_eq!(starts("Far.Route9 "), starts("FORWARDED ") + 1);
        assert_eq!(starts("without a name "), starts("GROUP ") + 1);
        let width = |line: &Line| line.text.chars().count();
        let summary = &lines[..5];
        assert!(summary.iter().all(|line| width(line) <= 80), "{summary:#?}");
        assert!(summary[1].text.ends_with("groups 1,234"), "{summary:#?}");
        assert!(
            summary[3].text.ends_with("cpu 12.3/64, 975.6 MiB"),
            "{summary:#?}"
        );
    }
}
