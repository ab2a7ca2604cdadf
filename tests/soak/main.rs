//! A cluster under load, while its nodes join, stop, hang, die and lose sight of each other.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../admin/http.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod http;
#[path = "../forwarding/proxy.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod proxy;
#[path = "../forwarding/cluster.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod rooms;

mod cluster;
mod crowd;
mod deaths;
#[cfg(target_os = "linux")]
mod hosts;
mod leaders;
mod leaks;
mod load;
mod order;
mod partition;
mod processes;
mod requests;
mod restarts;
mod services;
