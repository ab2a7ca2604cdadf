//! The data plane: a master, gates and backends in one process, over real sockets.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod adoptions;
mod balance;
mod binds;
mod calls;
mod cancellation;
mod channel_faults;
mod channel_load;
mod channels;
mod closed_sessions;
mod cluster;
mod directory_faults;
mod draining;
mod ends;
mod faults;
#[path = "../support/go/mod.rs"]
mod go;
mod go_backends;
mod go_gates;
#[path = "../admin/http.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod http;
mod incarnations;
mod last_servers;
mod links;
mod order;
#[allow(dead_code, reason = "a part of it is used here")]
mod proxy;
mod raw_link;
mod routes;
mod scripted_peer;
mod sessions;
mod shared_data;
mod stopping;
