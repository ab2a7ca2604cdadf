//! Players rather than connections: user ids, users found from any node, logins.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../fixtures/peer/channels.rs"]
mod channels;
mod channels_everywhere;
mod cluster;
mod logins;
mod members;
#[path = "../fixtures/peer/players.rs"]
mod players;
#[path = "../support/mod.rs"]
mod support;
mod suspended;
mod user_ids;
mod users;
mod views;
