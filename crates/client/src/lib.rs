//! The client: what tests, bots and other programs talk to a server with.
//!
//! ```no_run
//! use nano::client::Client;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize)]
//! struct Message<'a> { name: &'a str, content: &'a str }
//!
//! #[derive(Deserialize)]
//! struct Joined { result: String }
//!
//! # async fn example() -> nano::Result {
//! let mut builder = Client::builder();
//! let mut messages = builder.subscribe("onMessage");
//! let client = builder.connect("ws://127.0.0.1:3250/nano").await?;
//!
//! let joined: Joined = client.request("room.join", &()).await?;
//! assert_eq!(joined.result, "success");
//! client.notify("room.message", &Message { name: "bot", content: "hello" }).await?;
//! while let Some(message) = messages.recv_as::<serde_json::Value>().await {
//!     println!("{}", message?);
//! }
//! println!("{}", client.closed().await);
//! # Ok(())
//! # }
//! ```
//!
//! There are three ways to receive pushes. All see the pushes of a route in the order of arrival:
//!
//! | method | receives | where |
//! |---|---|---|
//! | [`Client::on`] | one route | a callback on the connection's task |
//! | [`Client::subscribe`] | one route | a queue of up to 1024 |
//! | [`Client::pushes`] | all routes, in their order of arrival | a queue of up to 1024 |
//!
//! # Crate and features
//!
//! `nano-server` re-exports this crate as `nano::client`. A program that is only a client can
//! depend on `nano-client` and compiles no server.
//!
//! - `tls` (default): `tls://` and `wss://` addresses.
#![forbid(unsafe_code)]

// From the top down: a module imports only from those below it.
mod builder;
pub use builder::Builder;

mod client;
pub use client::Client;

mod connection;

mod reconnect;
pub use reconnect::Event;

mod handshake;

mod shared;

mod subscription;
pub use subscription::{Push, Pushes, Subscription};

mod queue;

mod dial;

#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;

mod transport;

mod websocket;

mod io;

mod address;

mod heartbeat;

mod disconnect;
pub use disconnect::DisconnectReason;

/// The trait that [`Subscription`] and [`Pushes`] implement.
pub use futures_util::Stream;

/// The wire format, whose types are in signatures of this crate.
pub use nano_protocol as protocol;
pub use nano_protocol::{Error, Json, Protobuf, Raw, Result, code};

// The samples in it are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
