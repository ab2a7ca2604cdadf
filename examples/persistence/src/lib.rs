//! Players in a database, over SQLite or PostgreSQL.
//!
//! `docs/cookbook/persistence.md` explains it.

mod game;
mod store;

pub use self::{game::app, store::Store};
