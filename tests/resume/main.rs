//! Sessions that outlive their connections, from outside: real sockets, lost in every way.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod proxy;
#[path = "../support/mod.rs"]
mod support;
mod world;

mod gates;
mod limits;
mod lost;
mod migrations;
mod returns;
mod rolling;
mod soak;
