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

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    error::{Error, Result, code},
    handshake::Reply,
    message::Message,
    serialize::{self, Decode, Encode, Json, Serializer},
};

mod address;
mod builder;
mod close;
mod connection;
mod dial;
mod heartbeat;
mod link;
mod opening;
mod push;
mod transport;

pub use self::{builder::Builder, close::CloseReason, push::Subscription};

use self::{link::Link, push::Listeners};

/// A connection to a server.
///
/// A cheap handle: clone it, keep it, use it from any thread and task. `S` is the format of its
/// messages, a view that [`typed`](Client::typed) changes at no cost. When the last handle is
/// dropped, the connection closes as by [`close`](Client::close).
///
/// Requests and notifies enter one queue of 256 KiB and leave in that order, as many as are there
/// in one write. All futures are cancellation safe: dropping one before its message is queued means
/// that it is not sent, later that the answer is dropped.
pub struct Client<S: Serializer = Json> {
    handle: Arc<Handle>,
    format: PhantomData<fn() -> S>,
}

/// What all clones share and the connection's task does not hold.
struct Handle {
    link: Arc<Link>,
    request_timeout: Option<Duration>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.link.close();
    }
}

impl Client {
    /// Connects with the defaults of [`Client::builder`].
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().connect(url).await
    }

    /// Options for a connection, and listeners that hear what the server pushes first.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<S: Serializer> Client<S> {
    fn new(link: Arc<Link>, request_timeout: Option<Duration>) -> Self {
        Self {
            handle: Arc::new(Handle {
                link,
                request_timeout,
            }),
            format: PhantomData,
        }
    }

    /// The same connection, with messages in another format.
    pub fn typed<T: Serializer>(&self) -> Client<T> {
        Client {
            handle: self.handle.clone(),
            format: PhantomData,
        }
    }

    /// What the server answered to the handshake: heartbeat, time, dictionary, user data.
    pub fn handshake(&self) -> &Reply {
        self.link().reply()
    }

    /// Sends a request and waits for its answer. A reply of type `()` is whatever the server
    /// answers, unread.
    ///
    /// # Errors
    /// - What the server answered in an error reply: its code, message and metadata.
    /// - [`code::TIMEOUT`] when there is no answer within [`Builder::request_timeout`], the wait
    ///   for the queue included.
    /// - [`code::CLOSED`] when the connection is closed, or closes first.
    /// - [`code::BAD_REQUEST`] for a route over 255 bytes or an answer that is no `R`,
    ///   [`code::TOO_LARGE`] for a message over 16 MiB, and whatever the format says of a message
    ///   it cannot write.
    pub async fn request<R: 'static, M: ?Sized>(&self, route: &str, message: &M) -> Result<R>
    where
        S: Encode<M> + Decode<R>,
    {
        let answer = self.request_raw(route, S::encode(message)?).await?;
        serialize::decode_message::<S, R>(&answer)
    }

    /// [`request`](Client::request) with bytes as they are.
    ///
    /// # Errors
    /// As [`request`](Client::request).
    pub async fn request_raw(&self, route: &str, body: impl Into<Bytes>) -> Result<Bytes> {
        let message = Message::request(0, route, body);
        let answer = async { self.link().request(message).await?.receive().await };
        let Some(limit) = self.handle.request_timeout else {
            return answer.await;
        };
        timeout(limit, answer).await.unwrap_or_else(|_| {
            Err(Error::new(
                code::TIMEOUT,
                format!("no answer to {route} within {limit:?}"),
            ))
        })
    }

    /// Sends a message that is not answered. Waits until the queue takes it, which is as long as
    /// the server does not read.
    ///
    /// # Errors
    /// As [`request`](Client::request), without answer and timeout.
    pub async fn notify<M: ?Sized>(&self, route: &str, message: &M) -> Result
    where
        S: Encode<M>,
    {
        self.notify_raw(route, S::encode(message)?).await
    }

    /// [`notify`](Client::notify) with bytes as they are.
    ///
    /// # Errors
    /// As [`notify`](Client::notify).
    pub async fn notify_raw(&self, route: &str, body: impl Into<Bytes>) -> Result {
        self.link().notify(&Message::notify(route, body)).await
    }

    /// Calls `callback` with the body of each push of this route, in the order of arrival, until
    /// the connection closes. A route may have several callbacks and subscriptions. A push that
    /// nobody listens to is dropped; [`Builder::on`] misses none.
    ///
    /// The callback runs on the task that reads from the server, so it must not block. Its panic is
    /// logged and ends only that call. A `Client` that it holds keeps the connection open.
    pub fn on(&self, route: impl Into<String>, callback: impl Fn(Bytes) + Send + Sync + 'static) {
        self.link().listeners().on(route.into(), callback);
    }

    /// Queues the pushes of this route for a task that waits for them. A push that nobody listens
    /// to is dropped; [`Builder::subscribe`] misses none.
    pub fn subscribe(&self, route: impl Into<String>) -> Subscription<S> {
        Listeners::subscribe(self.link().listeners(), route.into())
    }

    /// Closes the connection with [`CloseReason::Local`]: requests in flight and calls that wait
    /// for the queue fail, subscriptions end, what is queued is still sent, within a second.
    /// Returns at once; [`closed`](Client::closed) waits.
    pub fn close(&self) {
        self.link().close();
    }

    /// Waits until the connection is closed and its task has let go of the socket.
    pub async fn closed(&self) -> CloseReason {
        self.link().closed().await
    }

    /// Why the connection is closed or closing; `None` while it is open.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.link().close_reason()
    }

    fn link(&self) -> &Link {
        &self.handle.link
    }
}

impl<S: Serializer> Clone for Client<S> {
    fn clone(&self) -> Self {
        self.typed()
    }
}

impl<S: Serializer> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("close_reason", &self.close_reason())
            .finish_non_exhaustive()
    }
}
