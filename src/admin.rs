//! The admin server of a node: health, metrics, a JSON API and a dashboard.
//!
//! It has a thread and a runtime of its own, and waits for no scheduler and no I/O thread: what it
//! shows, it reads from tables behind short locks. `access` decides which request may do what,
//! `routes` is the one list of what there is.

mod access;
mod actions;
mod busiest;
mod client_address;
mod lists;
mod load;
#[cfg(feature = "logs")]
mod logs;
mod metrics;
mod pages;
mod reports;
mod request;
mod routes;
mod server;
mod sessions;
mod state;
mod summary;
mod timeouts;
mod warnings;

#[cfg(feature = "logs")]
pub use self::logs::Logs;
pub use self::warnings::WarningLog;
pub(crate) use self::{
    server::{AdminServer, BoundAdmin},
    state::{AdminNode, KnownMasters, Settings},
};
