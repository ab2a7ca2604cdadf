//! Sessions that outlive their connections, from outside: real sockets, lost in every way.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod proxy;
#[path = "../support/mod.rs"]
mod support;

mod gates;
mod limits;
mod lost;
mod returns;
mod soak;
