//! Sessions that outlive their connections, from outside: real sockets, lost in every way.
#![allow(clippy::unwrap_used, missing_docs)]

mod front;
mod harness;
#[path = "../admin/http.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod http;
mod packets;
mod proxy;
#[path = "../support/mod.rs"]
mod support;
mod world;

mod complaints;
mod dying_gates;
mod gates;
mod limits;
mod lost;
mod migrations;
mod returns;
mod rolling;
mod soak;
mod superseded;
mod tables;
