//! Players rather than connections: user ids, and what any node can do with a user.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../fixtures/peer/channels.rs"]
mod channels;
mod channels_everywhere;
mod cluster;
#[path = "../fixtures/peer/players.rs"]
mod players;
mod user_ids;
