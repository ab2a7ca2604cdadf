//! The examples of clusters and of schedulers: as apps in this process, and as the programs one
//! starts. What the clients of the cluster see, to the byte, is in `tests/golden`.
#![allow(missing_docs, clippy::unwrap_used)]

mod cluster;
#[path = "../../examples/custom_route.rs"]
#[allow(dead_code)]
mod custom_route;
mod program;
mod rooms;
mod routes;
#[path = "../support/mod.rs"]
mod support;
