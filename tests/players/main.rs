//! Players rather than connections: user ids, users found from any node, logins.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../fixtures/peer/channels.rs"]
mod channels;
mod channels_everywhere;
mod chaos;
mod cluster;
#[path = "../admin/http.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod http;
#[path = "../fixtures/peer/journal.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod journal;
mod logins;
mod members;
#[path = "../fixtures/peer/players.rs"]
mod players;
mod silent_owner;
#[path = "../support/mod.rs"]
mod support;
mod suspended;
mod switch;
mod user_ids;
mod users;
mod views;
