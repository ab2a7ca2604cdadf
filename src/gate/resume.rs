//! Sessions that outlive their connections.
//!
//! A client asks for it in its handshake. When its connection is lost, the connection's task keeps
//! the session without a socket until the client returns, the session is closed, or the resume
//! window ends. The client returns on another connection; the task of that one checks the token
//! in `registry` and hands its socket over. `replay` is what the client may have to be sent again.

pub(super) mod disconnected;
pub(super) mod registry;
pub(super) mod replay;
pub(super) mod token;
