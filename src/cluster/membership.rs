//! The control plane: how nodes join and leave, and how every member learns of it.
//!
//! The decisions are state machines without I/O ([`table`], [`registry`], [`registration`],
//! [`updates`]), which a simulation drives through thousands of seeded failures. Around them are
//! the tasks and services: [`client`] of a member, [`broadcaster`] and [`service`] of a master.
//! [`state`] applies every change, publishes the table and notifies subscribers.

pub(super) mod broadcaster;
pub(super) mod client;
pub(super) mod election;
pub(super) mod election_service;
#[cfg(test)]
mod failover_simulation;
mod forward;
pub(super) mod heartbeat;
pub(super) mod leadership;
pub(super) mod masters;
mod other_master;
pub(super) mod registration;
pub(super) mod registry;
mod selector;
pub(super) mod service;
#[cfg(test)]
mod simulation;
pub(super) mod state;
pub(super) mod subscriber;
pub(super) mod table;
#[cfg(test)]
mod tests;
mod updates;
pub(super) mod view_status;
