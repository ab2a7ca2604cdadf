//! Membership on real sockets: nodes of this crate, and Go nano's recorded protocol.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/go/mod.rs"]
mod go;
mod go_masters;
mod go_members;
#[path = "../promises/log.rs"]
mod log;
mod masters;
mod membership;
mod nodes;
mod options;
mod port;
mod processes;
mod refusals;
mod security;
mod several_masters;
#[path = "../support/mod.rs"]
mod support;
mod unknown_fields;
