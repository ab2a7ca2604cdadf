//! The seeds of the fuzz targets, through the same checks.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path};

#[path = "../../../fuzz/checks.rs"]
mod checks;
#[path = "../../../fuzz/websocket.rs"]
mod websocket;

#[test]
fn packet_seeds_pass_the_packet_check() {
    run("packet", checks::packet);
}

#[test]
fn message_seeds_pass_the_message_check() {
    run("message", checks::message);
}

#[test]
fn handshake_seeds_pass_the_handshake_check() {
    run("handshake", checks::handshake);
}

#[test]
fn json_seeds_pass_the_json_check() {
    run("json", checks::json);
}

#[test]
fn resume_seeds_pass_the_resume_check() {
    run("resume", checks::resume);
}

#[test]
fn websocket_seeds_pass_the_websocket_check() {
    run("websocket", websocket::websocket);
}

fn run(target: &str, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&fs::read(&path).unwrap());
        seeds += 1;
    }
    assert!(seeds > 0, "no seeds in {}", directory.display());
}
