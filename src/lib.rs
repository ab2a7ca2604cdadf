//! A game-server framework: components with handlers, sessions, groups, timers, and gates for nano
//! and pomelo clients.
#![doc = include_str!("../docs/overview.md")]
#![forbid(unsafe_code)]

// From the top down: a module imports only from those below it.
pub mod guide;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "config")]
mod config;
#[cfg(feature = "config")]
pub use config::Config;

mod app;
#[cfg(feature = "admin")]
pub use app::Admin;
pub use app::{App, Cluster, Limits, Timeouts, Traces};

mod node;
pub use node::Node;

#[cfg(feature = "admin")]
mod admin;
#[cfg(feature = "logs")]
pub use admin::Logs;
#[cfg(feature = "admin")]
pub use admin::WarningLog;

mod gate;
pub use gate::{Accept, Handshake, Listener, RateLimit, SlowClient, UpgradeRequest};

mod cluster;
pub use cluster::{Balance, ClusterTls};

mod dispatch;

mod component;
pub use component::{Component, Handler, Handlers, Options};

pub mod filter;

mod handle;
pub use handle::{
    CallAllBuilder, DenyList, Handle, Location, Login, Readiness, Unique, User, Users,
};

mod channel;
pub use channel::{Channel, Position, Rejoined};

mod group;
pub use group::Group;

pub mod pipeline;
pub use pipeline::Pipeline;

#[cfg(any(test, feature = "testing"))]
pub mod mock;

mod session;
pub use session::{
    ByNode, BySession, CallBuilder, CloseCallback, CloseReason, Extensions, Push, Responder,
    Router, Session, SessionSink, Sessions, SharedData, State, UserId,
};

pub mod scheduler;
pub use scheduler::{Pool, PushError, Scheduler, Timer};

pub mod trace;

mod member;
pub use member::Member;

#[cfg(any(feature = "config", feature = "logs"))]
mod log_format;
#[cfg(any(feature = "config", feature = "logs"))]
pub use log_format::LogFormat;

mod in_flight;
mod log_limit;
mod memory_budget;
mod panic;

pub mod metrics;

mod net;
pub use net::network::Network;
#[cfg(feature = "tls")]
pub use net::tls::ClientCertificates;

/// What carries packets: for transports that this crate does not bring, such as QUIC, KCP or
/// WebTransport.
///
/// An [`Acceptor`](transport::Acceptor) accepts connections, and a [`Transport`](transport::Transport)
/// carries the packets of each. Everything above is the node's: handshake, heartbeats, limits,
/// sessions. Players behind a Unix socket:
///
/// ```
/// # #[cfg(unix)] mod unix {
/// use std::io;
///
/// use nano::{App, Listener, transport::{Accepted, Acceptor, Stream}};
/// use tokio::net::{UnixListener, UnixStream};
///
/// struct Unix(UnixListener);
///
/// impl Acceptor for Unix {
///     type Transport = Stream<UnixStream>;
///
///     async fn accept(&mut self) -> io::Result<Accepted<Self::Transport>> {
///         let (stream, _) = self.0.accept().await?;
///         Ok(Accepted::new(Stream::new(stream)))
///     }
/// }
///
/// fn app() -> io::Result<App> {
///     let listener = UnixListener::bind("/run/game/players.sock")?;
///     Ok(App::new().listen(Listener::custom(Unix(listener))))
/// }
/// # }
/// ```
pub mod transport {
    pub use crate::net::{
        stream::{Stream, Transport},
        transport::{Accepted, Acceptor},
    };
}

#[cfg(test)]
mod sample;

// The wire format, shared with the client.
#[doc(inline)]
pub use nano_protocol::{
    Decode, Encode, Error, ErrorCode, Json, Protobuf, Raw, Result, Serializer, StdError, code,
    handshake, kick, message, packet, resume,
};
use nano_protocol::{error, serialize};

#[cfg(feature = "client")]
#[doc(inline)]
pub use nano_client as client;

/// The gRPC library nodes speak with, in the version whose types [`Cluster::grpc_endpoint`] and
/// [`Cluster::grpc_server`] name.
pub use tonic;

/// The TLS library, in the version whose types [`Listener::tls_config`] names.
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;

/// The library of log subscribers, in the version whose layer [`WarningLog`] is.
#[cfg(feature = "admin")]
pub use tracing_subscriber;

/// Crates whose types are in signatures: [`axum`] in [`Listener`], [`prost`] in [`Protobuf`], and
/// [`bytes`] in every body.
pub use {axum, bytes, prost};

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Entry points of fuzz targets to code that is not public.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// Runs a link between nodes whose peer sends anything.
    pub fn link(data: &[u8]) {
        crate::cluster::check_link(data);
    }

    /// Runs the directory of a node whose peers send anything.
    pub fn directory(data: &[u8]) {
        crate::cluster::check_directory(data);
    }
}

// The samples in it are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
