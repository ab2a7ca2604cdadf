//! Alert rules, the board and the runbook name the same things, in each form they come in.

use std::{env, fs, path::Path, process::Command};

use crate::{
    programs::{blocks, run},
    read, source,
};

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const RULE: &str = "deploy/kubernetes/monitoring/alerts.yaml";

/// The words of a text that begin with `nano_`.
fn metrics(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("nano_")).collect()
}

/// What follows at the lines that begin so.
fn lines_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix(before)).collect()
}

/// The expressions of the board's panels.
fn board() -> Vec<String> {
    let board: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/board.json")).unwrap();
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    expressions.collect()
}

#[test]
fn alerts_panels_and_documents_name_metrics_that_exist() {
    let source = read("src/metrics/names.rs");
    let board = board().join("\n");
    let texts = [
        read(ALERTS),
        board,
        read("docs/runbook.md"),
        read("docs/operations.md"),
    ];
    let used: Vec<_> = texts.iter().flat_map(|text| metrics(text)).collect();
    assert!(used.len() > 20);
    for metric in used {
        // The series of a histogram.
        let series = ["_bucket", "_count", "_sum"];
        let name = series.iter().find_map(|end| metric.strip_suffix(end));
        let metric = name.unwrap_or(metric);
        assert!(source.contains(&format!("\"{metric}\"")), "{metric}");
    }
}

#[test]
fn each_metric_of_an_alert_is_on_the_board() {
    let (alerts, board) = (read(ALERTS), board());
    let shown: Vec<_> = board.iter().flat_map(|text| metrics(text)).collect();
    let missing = metrics(&alerts)
        .into_iter()
        .filter(|it| !shown.contains(it));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(board.iter().any(|it| it.contains("up{job=\"nano\"}")));
}

#[test]
fn each_alert_has_its_chapter_of_the_runbook_and_a_test() {
    let (alerts, runbook) = (read(ALERTS), read("docs/runbook.md"));
    let names = lines_after(&alerts, "- alert: ");
    let chapters = lines_after(&runbook, "## ").into_iter();
    let chapters: Vec<_> = chapters.filter(|it| it.starts_with("Nano")).collect();
    assert_eq!(names, chapters);
    let links = lines_after(&alerts, "runbook: docs/runbook.md#");
    // As in the book and on GitHub: a heading of one word is its own anchor.
    let anchors: Vec<_> = chapters.iter().map(|it| it.to_lowercase()).collect();
    assert_eq!(links, anchors);
    let tests = read("tests/fixtures/alerts.yml");
    let tested = tests.split("alertname: ").skip(1);
    let tested: Vec<_> = tested
        .filter_map(|it| it.split(|c: char| !c.is_ascii_alphanumeric()).next())
        .collect();
    let untested = names.iter().filter(|alert| !tested.contains(alert));
    assert_eq!(untested.collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn prometheus_operator_has_the_same_rules() {
    let alerts = read(ALERTS);
    let (_, groups) = alerts.split_once("\ngroups:\n").unwrap();
    let mut rule =
        "# The rules of deploy/prometheus/alerts.yml for the Prometheus operator. Generated: \
                    run the test with\n# NANO_BLESS=1 to write it anew.\n\
                    apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n\
                    metadata:\n  name: nano\nspec:\n  groups:\n"
            .to_owned();
    for line in groups.lines() {
        rule += &format!("  {line}\n");
    }
    if env::var_os("NANO_BLESS").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(RULE), &rule).unwrap();
    }
    assert_eq!(
        read(RULE),
        rule,
        "NANO_BLESS=1 cargo test --test deploy writes it"
    );
}

/// promtool is in Debian's package `prometheus`.
#[test]
fn alerts_fire_for_what_they_say() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/alerts.yml");
    run(Command::new("promtool").args(["test", "rules"]).arg(rules));
}

#[test]
fn what_the_guide_adds_to_the_configuration_of_prometheus_is_valid() {
    let guide = read("docs/deployment.md");
    let all = blocks(&guide, "yaml").into_iter();
    let all: Vec<_> = all
        .filter(|it| it.starts_with("alerting:") || it.starts_with("scrape_configs:"))
        .collect();
    assert_eq!(all.len(), 2);
    let folder = tempfile::tempdir().unwrap();
    for block in all {
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, block).unwrap();
        let mut promtool = Command::new("promtool");
        run(promtool
            .args(["check", "config", "--syntax-only"])
            .arg(file));
    }
}

/// A folder with a kustomization of a user's, beside a clone.
#[test]
fn kubernetes_loads_alerts_and_board_with_labels_of_ones_own() {
    let guide = read("docs/deployment.md");
    let all = blocks(&guide, "yaml").into_iter();
    let mut all = all.filter(|it| it.contains("deploy/kubernetes/monitoring]"));
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_MANIFEST_DIR"), folder.path().join("nano")).unwrap();
    fs::write(
        folder.path().join("kustomization.yaml"),
        all.next().unwrap(),
    )
    .unwrap();
    let mut kubectl = Command::new("kubectl");
    let Some(made) = run(kubectl.arg("kustomize").arg(folder.path())) else {
        return;
    };
    let made: Vec<_> = made.split("\n---\n").collect();
    for kind in ["PodMonitor", "PrometheusRule", "ConfigMap"] {
        let of_kind = made
            .iter()
            .find(|it| it.contains(&format!("\nkind: {kind}\n")));
        let of_kind = of_kind.unwrap_or_else(|| panic!("{kind}"));
        for line in ["release: kube-prometheus-stack", "namespace: game"] {
            assert!(of_kind.contains(line), "{kind}: {line}");
        }
    }
    let board = made
        .iter()
        .find(|it| it.contains("\n    grafana_dashboard: \"1\"\n"));
    assert!(board.unwrap().contains("\"title\": \"Blocked schedulers\""));
}

/// Phrases of the runbook that are neither commands, nor names, nor metrics.
fn log_lines(runbook: &str) -> Vec<&str> {
    let quoted = runbook.split('`').skip(1).step_by(2);
    let is_line = |it: &&str| {
        let letters = it
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || b" :,".contains(&byte));
        letters && it.contains(' ') && !it.starts_with("nano ")
    };
    quoted.filter(is_line).collect()
}

#[test]
fn log_lines_of_the_runbook_are_those_of_the_source() {
    let runbook = read("docs/runbook.md");
    let lines = log_lines(&runbook);
    assert!(lines.len() > 15, "{lines:?}");
    let sources = source::files("src", &["rs"]);
    let sources: Vec<_> = sources
        .iter()
        .map(|file| read(file.to_str().unwrap()))
        .collect();
    for line in lines {
        // Rust's own.
        let known =
            line == "panicked at" || sources.iter().any(|it| it.contains(&format!("\"{line}")));
        assert!(known, "{line}");
    }
}
