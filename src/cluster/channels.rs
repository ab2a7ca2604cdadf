//! Groups that span the cluster.
//!
//! Each channel has an owner, one of the nodes of this crate, chosen by its name. The [`owner`] gives
//! publications their order and sends each once to the gates that have members; the [`gate`] hands it
//! to them. Both are state machines without I/O; the driver feeds them.

mod collection;
mod departure;
mod driver;
mod epochs;
mod gate;
mod handed;
mod history;
mod inbox;
mod message;
mod move_input;
mod moves;
mod owner;
#[cfg(feature = "admin")]
mod report;
mod request;
mod service;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod view;
mod wire;

pub(crate) use self::service::Channels;
