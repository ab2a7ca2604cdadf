//! The promises of `docs/semantics.md`, each put to the test from outside: nodes on port 0, clients on real sockets.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

mod bounded;
mod configuration;
mod faults;
mod floods;
mod groups;
mod leaks;
mod lifecycle;
mod listeners;
mod nodes;
mod order;
mod pipeline;
mod requests;
mod serial;
mod sessions;
mod shutdown;
mod silence;
mod unanswered;
