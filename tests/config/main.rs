//! A node's configuration: files, variables of the environment, reloads.
#![allow(clippy::unwrap_used, missing_docs)]

mod cluster_tls;
#[path = "../support/configured.rs"]
#[allow(dead_code, reason = "the tests of the log use all of it")]
mod configured;
mod file;
mod keys;
mod limits;
mod reload;
mod signals;
#[path = "../support/mod.rs"]
mod support;
