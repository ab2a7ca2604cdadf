//! The admin server: health, metrics, the API, its bounds, and who may do what.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../promises/harness.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the promises, which use all of it"
)]
mod harness;
mod http;
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
mod metrics;
mod reports;
mod stuck;
