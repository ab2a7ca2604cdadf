//! The control plane: how nodes join and leave, and how every member learns of it.

pub(super) mod broadcaster;
pub(super) mod client;
pub(super) mod registration;
pub(super) mod registry;
pub(super) mod service;
#[cfg(test)]
mod simulation;
pub(super) mod state;
pub(super) mod table;
#[cfg(test)]
mod tests;
mod updates;
