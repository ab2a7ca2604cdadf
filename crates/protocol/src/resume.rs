//! Resume: a session that outlives its connections.
//!
//! Both ends count the data packets they have received since the session's first handshake, and keep
//! what they sent until the other end has acknowledged it. Acknowledgements are the bodies of
//! heartbeat packets. After a lost connection the client returns with a token and its count, the
//! server answers with its own count, and each end sends again what the other has not received.
//!
//! [`Endpoint`] is one end, the same type for clients and servers: no I/O, no clock. [`Ask`] and
//! [`Grant`] are the fields `sys.resume` of the handshake.
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use nano::{packet::{self, Kind}, resume::{Endpoint, Limits}};
//!
//! let (mut server, mut client) = (Endpoint::new(Limits::default()), Endpoint::new(Limits::default()));
//! let mut packets = BytesMut::new();
//! packet::encode(Kind::Data, b"one", &mut packets)?;
//! packet::encode(Kind::Data, b"two", &mut packets)?;
//! server.record(&packets.freeze());
//!
//! // The client gets the first packet, then the connection is lost.
//! client.receive(3);
//! let replay = server.resume(client.received())?;
//! assert_eq!(replay, [Bytes::from_static(b"\x04\0\0\x03two")]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod endpoint;
mod fields;
mod lost;
mod retained;

pub use self::{
    endpoint::{AckError, Endpoint, Snapshot, SnapshotError},
    fields::{Ask, Grant},
    lost::Lost,
    retained::Limits,
};
