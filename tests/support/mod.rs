//! What the suites share beyond `nano::testing`: the recorded server as a process of its own, and
//! an app with both kinds of listeners.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod address;
mod member_app;
mod peer;
#[path = "../../src/sample.rs"]
mod sample;
mod server;
mod service;

pub(crate) use self::{
    address::free_address,
    member_app::MemberApp,
    peer::{Exit, Peer, program},
    sample::sampled,
    server::Server,
    service::Service,
};
pub(crate) use nano::testing::{
    DEADLINE, RawClient, eventually, websocket,
    websocket::{Frame, opcode},
    within,
};
