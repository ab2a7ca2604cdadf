//! The calls between two gates of which one holds the session of a client of the other. Their messages
//! are declared in `proto/players.proto`.

pub(in crate::gate) use crate::cluster::{
    TunnelChunk as Chunk, TunnelFind as Find, TunnelFound as Found, TunnelOpen as Open,
    TunnelOpened as Opened,
};

/// The name of the service.
pub(in crate::gate) const SERVICE: &str = "Tunnel";
/// The method that opens a tunnel; [`Open`], answered with [`Opened`].
pub(in crate::gate) const OPEN: &str = "Tunnel.Open";
/// The method that asks whether a node holds a session; [`Find`], answered with [`Found`].
pub(in crate::gate) const FIND: &str = "Tunnel.Find";
/// The method that carries bytes, in both directions; a [`Chunk`], answered when it is consumed.
pub(in crate::gate) const CARRY: &str = "Tunnel.Carry";
