//! Clusters of real nodes on real sockets, and nodes of Go nano played by their recorded protocol.
#![allow(clippy::unwrap_used, missing_docs)]

mod go;
mod go_masters;
mod go_members;
mod masters;
mod membership;
mod nodes;
mod options;
mod processes;
mod refusals;
mod security;
#[path = "../support/mod.rs"]
mod support;

/// The protocol, from the same code as the library's own.
mod proto {
    #![allow(clippy::all, missing_docs, unreachable_pub, dead_code)]
    include!("../../src/cluster/generated/clusterpb.rs");
}
