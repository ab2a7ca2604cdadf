//! Growth as text.

use std::fmt::Write;

use super::curve::{Measure, Measured};

/// One point in one line.
pub(super) fn line(measures: &[Measure]) -> String {
    let cells: Vec<String> = measures
        .iter()
        .map(|measure| {
            let Measure { name, unit, value } = measure;
            format!("{name} {} {unit}", number(*value))
        })
        .collect();
    cells.join("; ")
}

/// All curves, a table and a chart for each.
pub(super) fn markdown(curves: &[Measured], machine: &[(String, String)]) -> String {
    let mut text = String::from("# Growth: tables\n\nMade by `nano-bench growth`.\n\n");
    for (name, value) in machine {
        writeln!(text, "- {name}: {value}").unwrap_or_default();
    }
    for curve in curves {
        let Some((_, first)) = curve.points.first() else {
            continue;
        };
        write!(text, "\n## {}\n\n| number |", curve.title).unwrap_or_default();
        for Measure { name, unit, .. } in first {
            let unit = if unit.is_empty() {
                String::new()
            } else {
                format!(", {unit}")
            };
            write!(text, " {name}{unit} |").unwrap_or_default();
        }
        text.push_str("\n|---:|");
        text.push_str(&"---:|".repeat(first.len()));
        text.push('\n');
        for (size, measures) in &curve.points {
            write!(text, "| {size} |").unwrap_or_default();
            for measure in measures {
                write!(text, " {} |", number(measure.value)).unwrap_or_default();
            }
            text.push('\n');
        }
        writeln!(text, "\n![{}](growth-{}.svg)", curve.title, curve.name).unwrap_or_default();
    }
    text
}

/// Three digits.
pub(super) fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
