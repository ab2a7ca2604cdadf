//! The files of `deploy/`: configurations are valid, names exist, and the services run together.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path, time::Duration};

use nano::{Config, testing::RawClient};

#[path = "deploy/agones.rs"]
mod agones;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;
#[path = "deploy/monitoring.rs"]
mod monitoring;
#[path = "deploy/programs.rs"]
mod programs;
#[path = "deploy/reload.rs"]
mod reload;
#[path = "layering/source.rs"]
#[allow(dead_code, reason = "only the list of files is used here")]
mod source;
#[path = "support/mod.rs"]
mod support;
#[path = "deploy/systemd.rs"]
mod systemd;

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

#[test]
fn compose_publishes_each_admin_server_on_this_machine_alone() {
    let compose = read("deploy/compose.yaml");
    let services = ["master", "gate1", "gate2", "backend1", "backend2"];
    for (service, port) in services.into_iter().zip(9470..) {
        let begin = format!("\n  {service}:\n");
        let (_, rest) = compose.split_once(&begin).unwrap();
        let section = rest.split("\n\n").next().unwrap();
        let published = format!("\"127.0.0.1:{port}:9470\"");
        assert!(section.contains(&published), "{service}");
    }
    assert_eq!(compose.matches(":9470\"").count(), services.len());
}

#[tokio::test]
async fn the_services_of_the_compose_file_run_together() {
    let token = ("NANO_ADMIN_TOKEN", "tuna");
    let master = Service::start("master", &[], &[token]).await;
    let nodes = master.nodes().to_string();
    let join = [token, ("NANO_CLUSTER_JOIN", &nodes)];
    let gate = Service::start("gate", &[], &join).await;
    let mut client = RawClient::websocket(gate.clients().unwrap(), "/nano").await;
    client.handshake().await;
    // The master and the gate offer nothing.
    client.request(1, "Echo.Echo", "hello").await;
    assert_eq!(client.error(1).await.code(), nano::code::NOT_FOUND);
    let _backend = Service::start("backend", &[], &join).await;
    // The gate may learn of the backend a moment after it has joined.
    let answered = async {
        for id in 2.. {
            client.request(id, "Echo.Echo", "hello").await;
            if client.message().await.body == "hello" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("an answer of the backend", answered).await;
}
