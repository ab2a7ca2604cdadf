//! The calls between two gates of which one holds the session of a client of the other.

/// The name of the service.
pub(in crate::gate) const SERVICE: &str = "Tunnel";
/// The method that opens a tunnel; [`Open`], answered with [`Opened`].
pub(in crate::gate) const OPEN: &str = "Tunnel.Open";
/// The method that carries bytes, in both directions; a [`Chunk`], answered when it is consumed.
pub(in crate::gate) const CARRY: &str = "Tunnel.Carry";

/// A client has returned.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::gate) struct Open {
    /// Chosen by the gate that asks.
    #[prost(fixed64, tag = "1")]
    pub(in crate::gate) tunnel: u64,
    #[prost(string, tag = "2")]
    pub(in crate::gate) token: String,
    /// The data packets the client has received, if it says so.
    #[prost(uint64, optional, tag = "3")]
    pub(in crate::gate) received: Option<u64>,
    /// The client's address; empty if it has none.
    #[prost(string, tag = "4")]
    pub(in crate::gate) remote: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::gate) struct Opened {
    /// Why the session is lost; empty if it goes on.
    #[prost(string, tag = "1")]
    pub(in crate::gate) lost: String,
}

/// Bytes of packets in one direction, and the end of them.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::gate) struct Chunk {
    #[prost(fixed64, tag = "1")]
    pub(in crate::gate) tunnel: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(in crate::gate) data: bytes::Bytes,
    /// Whether nothing follows.
    #[prost(bool, tag = "3")]
    pub(in crate::gate) end: bool,
    /// Of the client's end: whether it does not come back.
    #[prost(bool, tag = "4")]
    pub(in crate::gate) final_close: bool,
    /// Of the session's end: the code of the close frame; 0 for none.
    #[prost(uint32, tag = "5")]
    pub(in crate::gate) close_code: u32,
    #[prost(string, tag = "6")]
    pub(in crate::gate) close_reason: String,
}
