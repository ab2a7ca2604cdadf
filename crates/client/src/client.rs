//! The handle of a connection.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use nano_protocol::{
    Decode, Encode, Error, Json, Result, Serializer, code, handshake::Reply, kick::Kick,
    message::Message, serialize,
};

use crate::{
    disconnect::DisconnectReason,
    shared::Shared,
    subscription::{Pushes, Subscription},
};

/// A connection to a server.
///
/// A cheap handle, usable from any thread and task. `S` is the format of its messages;
/// [`typed`](Client::typed) changes it at no cost. Dropping the last handle closes the connection
/// as [`close`](Client::close) does.
///
/// Requests and notifies pass through one send queue of 256 KiB, in order; each write takes all
/// that is queued. While the queue is full, senders wait. All futures are cancellation safe: a
/// future dropped before its message is queued sends nothing, one dropped later ignores the
/// response.
///
/// ```
/// use nano::client::Client;
///
/// async fn play() -> nano::Result {
///     let client = Client::connect("ws://127.0.0.1:3251/nano").await?;
///     let mut messages = client.subscribe("onMessage");
///     let members: Vec<i64> = client.request("Room.Join", &()).await?;
///     client.notify("Room.Say", &"hello").await?;
///     if let Some(message) = messages.recv_as::<String>().await {
///         println!("{} are here, one said {}", members.len(), message?);
///     }
///     Ok(())
/// }
/// ```
pub struct Client<S: Serializer = Json> {
    handle: Arc<Handle>,
    format: PhantomData<fn() -> S>,
}

/// What all clones share. The connection's task does not hold it, so the last clone ends the
/// connection.
struct Handle {
    shared: Arc<Shared>,
    request_timeout: Option<Duration>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<S: Serializer> Client<S> {
    pub(crate) fn new(shared: Arc<Shared>, request_timeout: Option<Duration>) -> Self {
        Self {
            handle: Arc::new(Handle {
                shared,
                request_timeout,
            }),
            format: PhantomData,
        }
    }

    /// Returns a handle of the same connection with messages in another format.
    pub fn typed<T: Serializer>(&self) -> Client<T> {
        Client {
            handle: self.handle.clone(),
            format: PhantomData,
        }
    }

    /// The server's handshake reply: heartbeat, time, dictionary, user data.
    pub fn handshake(&self) -> &Reply {
        self.shared().reply()
    }

    /// Sends a request and waits for its response. The type `()` accepts any response unread.
    ///
    /// # Errors
    /// - Code, message and metadata of an error reply.
    /// - [`code::TIMEOUT`] without a response within
    ///   [`Builder::request_timeout`](crate::Builder::request_timeout), the wait for the send queue
    ///   included.
    /// - [`code::CLOSED`] when the connection is closed, or closes first.
    /// - [`code::BAD_REQUEST`] for a route over 255 bytes or a response that is not an `R`.
    /// - [`code::TOO_LARGE`] for a message over 16 MiB.
    /// - The format's error for a message that it cannot encode.
    pub async fn request<R: 'static, M: ?Sized>(&self, route: &str, message: &M) -> Result<R>
    where
        S: Encode<M> + Decode<R>,
    {
        let response = self.request_raw(route, S::encode(message)?).await?;
        serialize::decode_message::<S, R>(&response)
    }

    /// Sends a request with a body that is encoded already and returns the body of the response.
    ///
    /// # Errors
    /// As [`request`](Client::request).
    pub async fn request_raw(&self, route: &str, body: impl Into<Bytes>) -> Result<Bytes> {
        let message = Message::request(0, route, body);
        let response = async { self.shared().request(message).await?.receive().await };
        let Some(limit) = self.handle.request_timeout else {
            return response.await;
        };
        timeout(limit, response).await.unwrap_or_else(|_| {
            Err(Error::new(
                code::TIMEOUT,
                format!("no response to {route} within {limit:?}"),
            ))
        })
    }

    /// Sends a message without a response. Waits while the send queue is full, without a timeout:
    /// for as long as the server does not read.
    ///
    /// # Errors
    /// As [`request`](Client::request), without those of the response.
    pub async fn notify<M: ?Sized>(&self, route: &str, message: &M) -> Result
    where
        S: Encode<M>,
    {
        self.notify_raw(route, S::encode(message)?).await
    }

    /// Sends a notify with a body that is encoded already.
    ///
    /// # Errors
    /// As [`notify`](Client::notify).
    pub async fn notify_raw(&self, route: &str, body: impl Into<Bytes>) -> Result {
        self.shared().notify(&Message::notify(route, body)).await
    }

    /// Calls `callback` with the body of each push of this route, in the order of arrival, until
    /// the connection closes.
    ///
    /// A route may have several callbacks and subscriptions. A push without a listener is dropped;
    /// [`Builder::on`](crate::Builder::on) is in place before the first push.
    ///
    /// The callback runs on the task that reads from the server, so it must not block. A panic is
    /// logged and ends that call only. A `Client` captured by the callback keeps the connection
    /// open.
    pub fn on(&self, route: impl Into<String>, callback: impl Fn(Bytes) + Send + Sync + 'static) {
        self.shared().listeners().on(route.into(), callback);
    }

    /// Queues the pushes of this route, for a task that awaits them.
    ///
    /// [`Builder::subscribe`](crate::Builder::subscribe) is in place before the first push.
    pub fn subscribe(&self, route: impl Into<String>) -> Subscription<S> {
        self.shared().listeners().subscribe(route.into())
    }

    /// Queues the pushes of all routes in their order of arrival.
    ///
    /// [`Builder::pushes`](crate::Builder::pushes) is in place before the first push.
    pub fn pushes(&self) -> Pushes<S> {
        self.shared().listeners().pushes()
    }

    /// Closes the connection with [`DisconnectReason::Local`] and returns at once.
    ///
    /// Requests in flight and senders that wait for the send queue fail with [`code::CLOSED`], and
    /// subscriptions end. Queued messages are still sent, for up to a second;
    /// [`closed`](Client::closed) waits for that.
    pub fn close(&self) {
        self.shared().close();
    }

    /// Waits until the connection is closed and its socket released. Cancellation safe.
    pub async fn closed(&self) -> DisconnectReason {
        self.shared().closed().await
    }

    /// Why the connection is closed or closing; `None` while it is open.
    pub fn close_reason(&self) -> Option<DisconnectReason> {
        self.shared().close_reason()
    }

    /// The whole kick of the server, of which [`DisconnectReason::Kicked`] has the reason: its code,
    /// whether and where to connect again, and within which time. `None` if there was none.
    ///
    /// ```no_run
    /// use nano::{client::Client, kick::Reconnect};
    /// # async fn example(client: Client) {
    /// let reason = client.closed().await;
    /// if client.kick().is_some_and(|kick| kick.reconnect == Some(Reconnect::Never)) {
    ///     eprintln!("will not connect again: {reason}");
    /// }
    /// # }
    /// ```
    pub fn kick(&self) -> Option<&Kick> {
        self.shared().kick()
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
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
