//! A node's configuration: files, variables of the environment, reloads.
#![allow(clippy::unwrap_used, missing_docs)]

mod keys;
mod reload;
mod signals;
#[path = "../support/mod.rs"]
mod support;
