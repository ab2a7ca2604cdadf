//! Metrics as text: the format of Prometheus, and OpenMetrics.

use std::fmt::Write;

use super::registry::{Sample, Value};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Returns the format that an `Accept` header asks for: OpenMetrics where it is named with a
    /// weight that is not below the plain text's.
    pub(crate) fn of(accept: &str) -> Self {
        let weight = |kind: &str| {
            let offers = accept.split(',').filter_map(|offer| {
                let mut parts = offer.split(';').map(str::trim);
                (parts.next() == Some(kind)).then(|| {
                    let weight = parts.find_map(|part| part.strip_prefix("q="));
                    weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
                })
            });
            offers.fold(0.0, f32::max)
        };
        let open = weight("application/openmetrics-text");
        match open > 0.0 && open >= weight("text/plain") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// The value of `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes samples, which are sorted by name. `descriptions` has the documentation of each name.
pub(crate) fn encode(samples: &[Sample], descriptions: &[(&str, &str)], format: Format) -> String {
    let mut out = String::with_capacity(samples.len() * 160);
    for family in samples.chunk_by(|a, b| a.name == b.name) {
        let name = family[0].name;
        let description = descriptions.iter().find(|(known, _)| *known == name);
        head(
            &mut out,
            &family[0],
            description.map_or("", |it| it.1),
            format,
        );
        for sample in family {
            write_sample(&mut out, sample);
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn head(out: &mut String, sample: &Sample, description: &str, format: Format) {
    let kind = match sample.value {
        Value::Counter(_) => "counter",
        Value::Gauge(_) => "gauge",
        Value::Histogram(_) => "histogram",
    };
    // The family of a counter has no suffix in OpenMetrics.
    let family = match (format, sample.name.strip_suffix("_total")) {
        (Format::OpenMetrics, Some(family)) => family,
        _ => sample.name,
    };
    let _ = writeln!(
        out,
        "# HELP {family} {}",
        escaped(&plain(description), false)
    );
    let _ = writeln!(out, "# TYPE {family} {kind}");
    let unit = ["seconds", "bytes", "frames"]
        .into_iter()
        .find(|unit| family.ends_with(&format!("_{unit}")));
    if let (Format::OpenMetrics, Some(unit)) = (format, unit) {
        let _ = writeln!(out, "# UNIT {family} {unit}");
    }
}

fn write_sample(out: &mut String, sample: &Sample) {
    let name = sample.name;
    let labels: Vec<_> = sample
        .labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{}\"", escaped(value, true)))
        .collect();
    let labels = labels.join(",");
    // A write to a string cannot fail.
    let _ = match &sample.value {
        Value::Counter(count) => writeln!(out, "{name}{{{labels}}} {count}"),
        Value::Gauge(value) => writeln!(out, "{name}{{{labels}}} {value}"),
        Value::Histogram(distribution) => {
            for (end, below) in distribution.cumulative() {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {below}");
            }
            let (count, sum) = (distribution.count(), distribution.sum());
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}");
            writeln!(out, "{name}_count{{{labels}}} {count}")
        }
    };
}

fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    match quotes {
        true => text.replace('"', "\\\""),
        false => text,
    }
}

/// The first sentence of a documentation, without its marks and links.
fn plain(description: &str) -> String {
    let text = description.trim();
    let end = text.find(". ").map_or(text.len(), |end| end + 1);
    let mut out = String::with_capacity(end);
    let mut rest = &text[..end];
    while let Some((before, link)) = rest.split_once("](") {
        out.push_str(before);
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out.retain(|letter| !"[]`".contains(letter));
    out.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use metrics::{Counter, Gauge, Histogram};

    use super::{super::registry::Registry, *};

    fn samples() -> Vec<Sample> {
        let registry = Registry::default();
        let node = || ("node", "a\"b\\c\n".into());
        let labels = vec![node(), ("reason", "limit".into())];
        registry
            .counter("x_total", labels, Counter::noop())
            .increment(3);
        registry
            .gauge("y_bytes", vec![node()], Gauge::noop())
            .set(1.5);
        let seconds = registry.histogram("z_seconds", vec![node()], Histogram::noop());
        seconds.record(0.02);
        seconds.record(100.0);
        registry.read()
    }

    const DESCRIPTIONS: &[(&str, &str)] = &[(
        "x_total",
        " Things that were\n counted, see [`CloseReason::label`](crate::CloseReason::label). More.",
    )];

    #[test]
    fn prometheus_text_has_escapes_help_and_types() {
        let text = encode(&samples(), DESCRIPTIONS, Format::Prometheus);
        let expected = "# HELP x_total Things that were\\n counted, see CloseReason::label\n\
            # TYPE x_total counter\n\
            x_total{node=\"a\\\"b\\\\c\\n\",reason=\"limit\"} 3\n\
            # HELP y_bytes \n\
            # TYPE y_bytes gauge\n\
            y_bytes{node=\"a\\\"b\\\\c\\n\"} 1.5\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("le=\"0.032768\"} 1\n"), "{text}");
        assert!(text.contains("le=\"+Inf\"} 2\n"), "{text}");
        assert!(
            text.ends_with("z_seconds_count{node=\"a\\\"b\\\\c\\n\"} 2\n"),
            "{text}"
        );
    }

    #[test]
    fn openmetrics_names_families_units_and_the_end() {
        let text = encode(&samples(), DESCRIPTIONS, Format::OpenMetrics);
        assert!(text.contains("# TYPE x counter\nx_total{"), "{text}");
        assert!(text.contains("# UNIT y_bytes bytes\n"), "{text}");
        assert!(text.contains("# UNIT z_seconds seconds\n"), "{text}");
        assert!(text.ends_with("\n# EOF\n"), "{text}");
    }

    #[test]
    fn the_accept_header_chooses_the_format() {
        let open = [
            "application/openmetrics-text",
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
        ];
        for accept in open {
            assert_eq!(Format::of(accept), Format::OpenMetrics, "{accept}");
        }
        let text = [
            "",
            "*/*",
            "text/plain",
            "text/plain, application/openmetrics-text;q=0.1",
        ];
        for accept in text {
            assert_eq!(Format::of(accept), Format::Prometheus, "{accept}");
        }
    }
}
