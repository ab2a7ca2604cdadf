//! Clusters of real nodes: ours, and such of Go nano, in every combination. `go` builds the latter
//! from `tests/interop/node`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod cannot;
mod cluster;
mod endings;
mod go;
mod node;
mod player;
mod room;
mod traffic;
mod users;
mod with_go_nano;
