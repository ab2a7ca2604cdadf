//! nano
pub mod handshake;
pub mod message;
pub mod packet;

mod error;
pub use error::{Error, Result, code};
