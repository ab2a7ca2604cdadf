//! The examples as users start them: as apps in this process, and as programs. What the clients of
//! the cluster receive, to the byte, is in `tests/golden`.
#![allow(missing_docs, clippy::unwrap_used)]

mod cards;
mod cluster;
#[path = "../custom_route.rs"]
#[allow(dead_code)]
mod custom_route;
mod filters;
mod pages;
mod program;
mod rooms;
mod routes;
#[path = "../../tests/support/mod.rs"]
mod support;
