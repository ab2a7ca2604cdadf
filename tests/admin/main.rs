//! The admin server: health, metrics, the API, its bounds, and who may do what.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/go/mod.rs"]
mod go;
#[path = "../promises/harness.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the promises, which use all of it"
)]
mod harness;
mod http;
#[path = "../forwarding/raw_link.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of links, which use all of it"
)]
mod raw_link;
#[path = "../forwarding/scripted_peer.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of links, which use all of it"
)]
mod scripted_peer;
#[path = "../support/mod.rs"]
mod support;

mod access;
mod actions;
mod bounds;
mod cluster;
#[path = "../support/configured.rs"]
mod configured;
mod described;
mod health;
mod logs;
mod malformed;
mod metrics;
mod peers;
mod reports;
mod stuck;
