//! Line charts, as SVG: a small one for each measure of a curve. The number is on a logarithmic axis,
//! the cost on one that begins at zero.

use std::fmt::Write;

use super::{curve::Measured, table::number};

const WIDTH: f64 = 250.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 20.0;
const TOP: f64 = 60.0;
const GAP: f64 = 34.0;
const LINE: &str = "#d9541e";

pub(super) fn svg(curve: &Measured) -> String {
    let count = curve
        .points
        .first()
        .map_or(0, |(_, measures)| measures.len());
    let width = LEFT + count as f64 * (WIDTH + GAP);
    let height = TOP + HEIGHT + 40.0;
    let mut body = String::new();
    for panel in 0..count {
        let left = LEFT + panel as f64 * (WIDTH + GAP);
        draw(curve, panel, left, &mut body);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n{body}</svg>\n",
        curve.title
    )
}

/// One measure over the sizes.
fn draw(curve: &Measured, panel: usize, left: f64, body: &mut String) {
    let points: Vec<(usize, f64)> = curve
        .points
        .iter()
        .filter_map(|(size, measures)| Some((*size, measures.get(panel)?.value)))
        .collect();
    let (Some(&(least, _)), Some(&(most, _))) = (points.first(), points.last()) else {
        return;
    };
    let Some(measure) = curve
        .points
        .first()
        .and_then(|(_, measures)| measures.get(panel))
    else {
        return;
    };
    let highest = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let steps = (most as f64 / least as f64).ln();
    let x = |size: usize| match steps > 0.0 {
        true => left + (WIDTH - 30.0) * (size as f64 / least as f64).ln() / steps,
        false => left,
    };
    let y = |value: f64| match highest > 0.0 {
        true => TOP + HEIGHT * (1.0 - value / highest / 1.15),
        false => TOP + HEIGHT,
    };
    let (base, right) = (TOP + HEIGHT, left + WIDTH - 20.0);
    let unit = if measure.unit.is_empty() {
        String::new()
    } else {
        format!(", {}", measure.unit)
    };
    write!(
        body,
        "<text x=\"{left:.1}\" y=\"44\" font-weight=\"bold\">{}{unit}</text>\n\
         <path d=\"M{left:.1} {base:.1}H{right:.1}M{left:.1} {base:.1}V{TOP:.1}\" stroke=\"#999\" fill=\"none\"/>\n",
        measure.name
    )
    .unwrap_or_default();
    let line: Vec<String> = points
        .iter()
        .map(|&(size, value)| format!("{:.1} {:.1}", x(size), y(value)))
        .collect();
    writeln!(
        body,
        "<path d=\"M{}\" stroke=\"{LINE}\" stroke-width=\"2\" fill=\"none\"/>",
        line.join("L")
    )
    .unwrap_or_default();
    for &(size, value) in &points {
        let (x, y) = (x(size), y(value));
        write!(
            body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{LINE}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#777\">{}</text>\n",
            x + 4.0,
            y - 6.0,
            number(value),
            base + 16.0,
            short(size)
        )
        .unwrap_or_default();
    }
}

fn short(size: usize) -> String {
    match size {
        1_000_000.. => format!("{} M", size / 1_000_000),
        1_000.. => format!("{} k", size / 1_000),
        _ => size.to_string(),
    }
}
