//! The wire format of nano: what clients and gates send each other, and how payloads are encoded.
//!
//! Everything here maps bytes to values and back. The crate does no I/O, starts no task and reads
//! no clock, so servers, clients, proxies and fuzzers share it. From the outermost layer inwards:
//!
//! | layer | module | on the wire |
//! |---|---|---|
//! | WebSocket | [`websocket`] | the frames that carry packets, where they are not on a bare stream |
//! | packet | [`packet`] | kind, length, body |
//! | handshake | [`handshake`], [`kick`] | the JSON bodies of handshake and kick packets |
//! | resume | [`resume`] | `sys.resume` in the handshake, counts in heartbeat packets |
//! | message | [`message`] | the bodies of data packets: kind, id, route, payload |
//! | payload | [`serialize`] | JSON, Protocol Buffers, raw bytes, or a format of the application |
//!
//! Applications depend on `nano-server` or `nano-client`, which re-export these modules; the
//! examples use those paths.
#![forbid(unsafe_code)]

// From the top down: a module imports only from those below it.
pub mod kick;

pub mod handshake;
pub mod message;
pub mod resume;

pub mod packet;
pub mod websocket;

pub mod serialize;
pub use serialize::{Decode, Encode, Json, Protobuf, Raw, Serializer};

pub mod error;
pub use error::{
    Error, Result, StdError,
    code::{self, ErrorCode},
};

/// Re-exported, because their types are in signatures of this crate.
pub use {bytes, bytestring, prost, serde_json};

// The samples in it are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
