//! The files of `deploy/`: configurations are valid, names exist, and the services run together.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path, time::Duration};

use nano::{Config, testing::RawClient};
use tokio::process::Command;

#[path = "deploy/agones.rs"]
mod agones;
#[path = "support/mod.rs"]
mod support;

use support::{Service, within};

fn read(file: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The masters in Kubernetes, as members name them.
const MASTERS: &str = r#"["nano-master-0.nano-master:34580", "nano-master-1.nano-master:34580", "nano-master-2.nano-master:34580"]"#;

const ROLES: [&str; 3] = ["master", "gate", "backend"];

#[test]
fn configurations_are_valid_and_the_same_in_kubernetes() {
    let map = read("deploy/kubernetes/config.yaml");
    for role in ROLES {
        let text = read(&format!("deploy/config/{role}.toml"));
        let config: Config = text.parse().unwrap();
        assert!(config.cluster().is_some(), "{role}");
        let expected = text.replace("[\"master:34580\"]", MASTERS);
        let indented: String = expected
            .lines()
            .map(|line| match line {
                "" => "\n".to_owned(),
                line => format!("    {line}\n"),
            })
            .collect();
        assert!(
            map.contains(&format!("  {role}.toml: |\n{indented}")),
            "{role}"
        );
    }
}

/// The words of a text that begin with `nano_`.
fn metrics(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("nano_")).collect()
}

#[test]
fn alerts_panels_and_documents_name_metrics_that_exist_and_the_runbook_names_the_alerts() {
    let source = read("src/metrics/names.rs");
    let (alerts, board) = (
        read("deploy/prometheus/alerts.yml"),
        read("deploy/grafana/board.json"),
    );
    let board: serde_json::Value = serde_json::from_str(&board).unwrap();
    let board = board.to_string();
    let (runbook, operations) = (read("docs/runbook.md"), read("docs/operations.md"));
    let texts = [&alerts, &board, &runbook, &operations];
    let used = texts.map(|text| metrics(text)).concat();
    assert!(used.len() > 20);
    for metric in used {
        // The series of a histogram.
        let series = ["_bucket", "_count", "_sum"];
        let name = series.iter().find_map(|end| metric.strip_suffix(end));
        let metric = name.unwrap_or(metric);
        assert!(source.contains(&format!("\"{metric}\"")), "{metric}");
    }
    let alerts = lines_after(&alerts, "- alert: ");
    let chapters = lines_after(&runbook, "## ").into_iter();
    let chapters: Vec<_> = chapters.filter(|it| it.starts_with("Nano")).collect();
    assert_eq!(alerts, chapters);
    let tests = read("tests/fixtures/alerts.yml");
    let tested = lines_after(&tests, "alertname: ");
    let untested = alerts.iter().filter(|alert| !tested.contains(alert));
    assert_eq!(untested.collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// What follows at the lines that begin so.
fn lines_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix(before)).collect()
}

/// promtool is in Debian's package `prometheus`.
#[tokio::test]
async fn alerts_fire_for_what_they_say() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/alerts.yml");
    let mut promtool = Command::new("promtool");
    let Ok(tested) = promtool.args(["test", "rules"]).arg(rules).output().await else {
        println!("skipped: promtool is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&tested.stderr) + String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{said}");
}

#[tokio::test]
async fn the_services_of_the_compose_file_run_together() {
    let none = ["--services", ""];
    let token = ("NANO_ADMIN_TOKEN", "tuna");
    let master = Service::start("master", &none, &[token]).await;
    let nodes = master.nodes().to_string();
    let join = [token, ("NANO_CLUSTER_JOIN", &nodes)];
    let _backend = Service::start("backend", &[], &join).await;
    let gate = Service::start("gate", &none, &join).await;
    let mut client = RawClient::websocket(gate.clients().unwrap(), "/nano").await;
    client.handshake().await;
    // The gate may learn of the backend a moment after it has joined.
    let answered = async {
        for id in 1.. {
            client.request(id, "Echo.Echo", "hello").await;
            if client.message().await.body == "hello" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("an answer of the backend", answered).await;
}
