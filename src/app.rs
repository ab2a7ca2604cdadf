//! The builder of a node.

mod hooks;

mod builder;

#[cfg(feature = "admin")]
mod admin;
mod cluster;
mod limits;
mod timeouts;
mod traces;

#[cfg(feature = "admin")]
pub use self::admin::Admin;
pub use self::{
    builder::App, cluster::Cluster, limits::Limits, timeouts::Timeouts, traces::Traces,
};
