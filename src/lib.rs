//! nano
pub mod handshake;
pub mod message;
pub mod packet;

mod error;
pub mod scheduler;
pub use error::{Error, Result, code};
pub use scheduler::{Full, Scheduler, Timer};
