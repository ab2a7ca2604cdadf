//! Groups that span the cluster.
//!
//! Each channel has an owner, one of the nodes of this crate, chosen by its name. The [`owner`] gives
//! publications their order and sends each once to the gates that have members; the [`gate`] hands it
//! to them. Both are state machines without I/O; the driver feeds them.

mod driver;
mod gate;
mod history;
mod message;
mod owner;
mod service;
#[cfg(test)]
mod simulation;
mod view;
mod wire;

pub(crate) use self::service::Channels;
