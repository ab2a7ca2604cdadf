//! The page: charts, and all tables, in one file without scripts.

use std::fmt::Write;

use super::{chart, outcome::Outcome, table};

const STYLE: &str = "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222}\
                     table{border-collapse:collapse;font-size:13px}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}\
                     svg{max-width:100%;height:auto}.wide{overflow-x:auto}";

pub(crate) fn html(outcome: &Outcome) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>nano: benchmark</title>\n<style>{STYLE}</style>\n<h1>Benchmark</h1>\n"
    );
    for (_, svg) in chart::all(outcome) {
        writeln!(page, "<p>{svg}</p>").unwrap_or_default();
    }
    convert(&table::markdown(outcome), &mut page);
    page.push_str("</html>\n");
    page
}

/// As much of Markdown as the tables use.
fn convert(markdown: &str, page: &mut String) {
    let mut open: Option<&str> = None;
    for line in markdown.lines() {
        let block = match line.as_bytes() {
            [b'|', ..] => Some("table"),
            [b'-', ..] => Some("ul"),
            _ => None,
        };
        if block != open {
            if let Some(tag) = open {
                writeln!(
                    page,
                    "</{tag}>{}",
                    if tag == "table" { "</div>" } else { "" }
                )
                .unwrap_or_default();
            }
            if let Some(tag) = block {
                writeln!(
                    page,
                    "{}<{tag}>",
                    if tag == "table" {
                        "<div class=\"wide\">"
                    } else {
                        ""
                    }
                )
                .unwrap_or_default();
            }
            open = block;
        }
        let text = inline(line);
        match text.as_str() {
            row if row.starts_with("|---") => {}
            row if row.starts_with('|') => {
                let cells: String = row
                    .trim_matches('|')
                    .split('|')
                    .map(|cell| format!("<td>{}</td>", cell.trim()))
                    .collect();
                writeln!(page, "<tr>{cells}</tr>").unwrap_or_default();
            }
            item if item.starts_with("- ") => {
                writeln!(page, "<li>{}</li>", &item[2..]).unwrap_or_default()
            }
            title if title.starts_with("### ") => {
                writeln!(page, "<h3>{}</h3>", &title[4..]).unwrap_or_default()
            }
            title if title.starts_with("## ") => {
                writeln!(page, "<h2>{}</h2>", &title[3..]).unwrap_or_default()
            }
            "" => {}
            text => writeln!(page, "<p>{text}</p>").unwrap_or_default(),
        }
    }
    if let Some(tag) = open {
        writeln!(
            page,
            "</{tag}>{}",
            if tag == "table" { "</div>" } else { "" }
        )
        .unwrap_or_default();
    }
}

fn inline(line: &str) -> String {
    let escaped = line
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    escaped.replace("**missed**", "<strong>missed</strong>")
}
