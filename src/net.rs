//! What carries bytes: addresses, TLS, streams, WebSocket, timers and wake-ups of connections.
//!
//! Nothing here knows of sessions or of the gate.

pub(crate) mod accept_errors;
pub(crate) mod address;
pub(crate) mod bind;
pub(crate) mod deadline;
pub(crate) mod forwarded;
pub(crate) mod machine_memory;
pub(crate) mod network;
pub(crate) mod proxy_header;
pub(crate) mod stream;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "net/no_tls.rs"]
pub(crate) mod tls;
pub(crate) mod transport;
pub(crate) mod wake_batch;
pub(crate) mod websocket;
