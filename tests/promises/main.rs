//! The promises of `docs/semantics.md`, each put to the test from outside: nodes on port 0, clients
//! on real sockets.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod http_edge;
#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod blocked;
mod bounded;
mod certificates;
mod configuration;
mod denied;
mod draining;
mod error_bit;
mod error_forms;
mod faults;
mod filters;
mod floods;
mod groups;
mod handshake;
mod handshake_checks;
mod kicks;
mod leaks;
mod lifecycle;
mod listeners;
mod log;
mod log_context;
mod memory;
mod nodes;
mod order;
mod pipeline;
mod proxied;
mod queues;
mod refused;
mod requests;
mod serial;
mod session_hooks;
mod sessions;
mod shutdown;
mod silence;
mod stock_filters;
mod transports;
mod unanswered;
mod websocket;
mod websocket_edge;

#[test]
fn every_test_the_document_names_exists() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(directory.join("docs/semantics.md")).unwrap();
    let names: Vec<_> = document
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|word| word.split_once("::"))
        .collect();
    let of_tests = |module: &str| {
        module
            .chars()
            .all(|letter| letter.is_lowercase() || letter == '_')
    };
    let suites = [
        "promises",
        "membership",
        "forwarding",
        "resume",
        "players",
        "metrics",
        "config",
        "admin",
        "soak",
    ];
    let mut count = 0;
    for (module, name) in names
        .into_iter()
        .filter(|(module, name)| of_tests(module) && *name != "name")
    {
        let files = suites.iter().filter_map(|suite| {
            std::fs::read_to_string(directory.join(format!("tests/{suite}/{module}.rs"))).ok()
        });
        assert!(
            files
                .into_iter()
                .any(|file| file.contains(&format!("fn {name}()"))),
            "{module}::{name}"
        );
        count += 1;
    }
    assert!(count > 50, "{count}");
}
