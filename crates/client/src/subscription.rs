//! Delivery of pushes to callbacks and queues.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::Stream;
use nano_protocol::{Decode, Json, Result, Serializer, serialize};
use parking_lot::Mutex;
use tracing::{error, trace};

use crate::queue::Queue;

/// How many pushes a [`Subscription`] or [`Pushes`] holds.
const CAPACITY: usize = 1024;

/// The callbacks and queues of one connection.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<Table>);

/// Slices in `Arc`s, so that [`Listeners::deliver`] takes a snapshot without copying.
#[derive(Default)]
struct Table {
    routes: HashMap<String, Arc<[Listener]>>,
    /// Queues that receive the pushes of all routes.
    all: Arc<[Arc<Queue<RawPush>>]>,
    closed: bool,
}

#[derive(Clone)]
enum Listener {
    Callback(Arc<dyn Fn(Bytes) + Send + Sync>),
    Queue(Arc<Queue<Bytes>>),
}

struct RawPush {
    route: ByteString,
    body: Bytes,
}

impl Listeners {
    pub(crate) fn on(&self, route: String, callback: impl Fn(Bytes) + Send + Sync + 'static) {
        self.add(route, Listener::Callback(Arc::new(callback)));
    }

    pub(crate) fn subscribe<S: Serializer>(self: &Arc<Self>, route: String) -> Subscription<S> {
        let queue = Arc::new(Queue::new(CAPACITY));
        self.add(route.clone(), Listener::Queue(queue.clone()));
        Subscription {
            route,
            queue,
            listeners: self.clone(),
            format: PhantomData,
        }
    }

    pub(crate) fn pushes<S: Serializer>(self: &Arc<Self>) -> Pushes<S> {
        let queue = Arc::new(Queue::new(CAPACITY));
        let mut table = self.0.lock();
        if table.closed {
            queue.close();
        } else {
            table.all = table.all.iter().chain([&queue]).cloned().collect();
        }
        drop(table);
        Pushes {
            queue,
            listeners: self.clone(),
            format: PhantomData,
        }
    }

    fn add(&self, route: String, listener: Listener) {
        let mut table = self.0.lock();
        if table.closed {
            drop(table);
            return listener.close();
        }
        let listeners = table.routes.entry(route).or_default();
        *listeners = listeners.iter().cloned().chain([listener]).collect();
    }

    fn remove(&self, route: &str, queue: &Arc<Queue<Bytes>>) {
        let mut table = self.0.lock();
        let Some(listeners) = table.routes.get_mut(route) else {
            return;
        };
        let is_other = |listener: &&Listener| !matches!(listener, Listener::Queue(other) if Arc::ptr_eq(queue, other));
        *listeners = listeners.iter().filter(is_other).cloned().collect();
        if listeners.is_empty() {
            table.routes.remove(route);
        }
    }

    fn remove_from_all(&self, queue: &Arc<Queue<RawPush>>) {
        let mut table = self.0.lock();
        let is_other = |other: &&Arc<Queue<RawPush>>| !Arc::ptr_eq(queue, other);
        table.all = table.all.iter().filter(is_other).cloned().collect();
    }

    /// Delivers a push to all listeners of its route, then to the queues of all routes.
    ///
    /// The lock is not held while callbacks run, so they may add listeners.
    pub(crate) fn deliver(&self, route: ByteString, body: Bytes) {
        let table = self.0.lock();
        let listeners = table.routes.get(&route[..]).cloned();
        let all = (!table.all.is_empty()).then(|| table.all.clone());
        drop(table);
        if listeners.is_none() && all.is_none() {
            return trace!(%route, "push dropped, no listener");
        }
        for listener in listeners.iter().flat_map(|listeners| &**listeners) {
            match listener {
                Listener::Callback(callback) => {
                    if catch_unwind(AssertUnwindSafe(|| callback(body.clone()))).is_err() {
                        error!(%route, "push callback panicked");
                    }
                }
                Listener::Queue(queue) => queue.push(body.clone()),
            }
        }
        for queue in all.iter().flat_map(|all| &**all) {
            queue.push(RawPush {
                route: route.clone(),
                body: body.clone(),
            });
        }
    }

    /// Drops all callbacks, which may hold the client, and ends all queues.
    pub(crate) fn close(&self) {
        let mut table = self.0.lock();
        table.closed = true;
        let routes = mem::take(&mut table.routes);
        let all = mem::take(&mut table.all);
        drop(table);
        routes
            .values()
            .flat_map(|listeners| &**listeners)
            .for_each(Listener::close);
        all.iter().for_each(|queue| queue.close());
    }
}

impl Listener {
    fn close(&self) {
        if let Self::Queue(queue) = self {
            queue.close();
        }
    }
}

/// The pushes of one route; made by [`Client::subscribe`](crate::Client::subscribe).
///
/// It holds up to 1024 pushes. When another one arrives, the oldest is dropped and counted in
/// [`missed`](Subscription::missed), so a slow reader delays neither responses nor other listeners.
/// A subscription does not keep the connection open, and after the connection has closed it still
/// hands out what it holds. As a [`Stream`] it yields the bodies.
///
/// ```
/// use nano::client::Client;
///
/// async fn print_scores(client: &Client) -> nano::Result {
///     let mut scores = client.subscribe("onScore");
///     while let Some(score) = scores.recv_as::<u32>().await {
///         println!("{} points, {} pushes missed", score?, scores.missed());
///     }
///     Ok(())
/// }
/// ```
#[must_use = "a dropped subscription receives nothing"]
pub struct Subscription<S: Serializer = Json> {
    route: String,
    queue: Arc<Queue<Bytes>>,
    listeners: Arc<Listeners>,
    format: PhantomData<fn() -> S>,
}

impl<S: Serializer> Subscription<S> {
    /// Waits for the next push; `None` once the connection is closed. Cancellation safe.
    pub async fn recv(&mut self) -> Option<Bytes> {
        poll_fn(|cx| self.queue.poll_pop(cx)).await
    }

    /// Waits for the next push and decodes it. A push that is not an `M` is consumed.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`](nano_protocol::code::BAD_REQUEST) when the push is not an `M`.
    pub async fn recv_as<M: 'static>(&mut self) -> Option<Result<M>>
    where
        S: Decode<M>,
    {
        let body = self.recv().await?;
        Some(serialize::decode_message::<S, M>(&body))
    }

    /// Takes the next push, if it has arrived already.
    pub fn try_recv(&mut self) -> Option<Bytes> {
        self.queue.try_pop()
    }

    /// How many pushes were dropped because they were not received in time.
    pub fn missed(&self) -> u64 {
        self.queue.missed()
    }
}

impl<S: Serializer> Stream for Subscription<S> {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.queue.poll_pop(cx)
    }
}

impl<S: Serializer> Drop for Subscription<S> {
    fn drop(&mut self) {
        self.listeners.remove(&self.route, &self.queue);
    }
}

impl<S: Serializer> fmt::Debug for Subscription<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("route", &self.route)
            .field("missed", &self.missed())
            .finish_non_exhaustive()
    }
}

/// The pushes of all routes in their order of arrival; made by
/// [`Client::pushes`](crate::Client::pushes).
///
/// Bounded like a [`Subscription`]: it holds up to 1024 pushes, drops the oldest for a new one, and
/// counts it in [`missed`](Pushes::missed). After the connection has closed it still hands out what
/// it holds.
///
/// ```no_run
/// use nano::client::Client;
///
/// # async fn example() -> nano::Result {
/// let mut builder = Client::builder();
/// let mut pushes = builder.pushes();
/// let client = builder.connect("tcp://127.0.0.1:3250").await?;
/// client.notify("Table.Ready", &()).await?;
/// while let Some(push) = pushes.recv().await {
///     match push.route() {
///         "onDeal" => println!("dealt {:?}", push.decode::<Vec<u8>>()?),
///         route => println!("{route}: {:?}", push.body()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a dropped stream receives nothing"]
pub struct Pushes<S: Serializer = Json> {
    queue: Arc<Queue<RawPush>>,
    listeners: Arc<Listeners>,
    format: PhantomData<fn() -> S>,
}

impl<S: Serializer> Pushes<S> {
    /// Waits for the next push; `None` once the connection is closed. Cancellation safe.
    pub async fn recv(&mut self) -> Option<Push<S>> {
        poll_fn(|cx| self.queue.poll_pop(cx)).await.map(Push::new)
    }

    /// Takes the next push, if it has arrived already.
    pub fn try_recv(&mut self) -> Option<Push<S>> {
        self.queue.try_pop().map(Push::new)
    }

    /// How many pushes were dropped because they were not received in time.
    pub fn missed(&self) -> u64 {
        self.queue.missed()
    }
}

impl<S: Serializer> Stream for Pushes<S> {
    type Item = Push<S>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Push<S>>> {
        self.queue.poll_pop(cx).map(|push| push.map(Push::new))
    }
}

impl<S: Serializer> Drop for Pushes<S> {
    fn drop(&mut self) {
        self.listeners.remove_from_all(&self.queue);
    }
}

impl<S: Serializer> fmt::Debug for Pushes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushes")
            .field("missed", &self.missed())
            .finish_non_exhaustive()
    }
}

/// One push of [`Pushes`]: its route, and its body in the format `S`.
///
/// ```
/// use nano::client::Client;
///
/// async fn follow(client: &Client) {
///     let mut pushes = client.pushes();
///     while let Some(push) = pushes.recv().await {
///         match push.route() {
///             "onDeal" => println!("new cards: {:?}", push.body()),
///             "onTurn" => println!("my turn"),
///             _ => {}
///         }
///     }
/// }
/// ```
pub struct Push<S: Serializer = Json> {
    raw: RawPush,
    format: PhantomData<fn() -> S>,
}

impl<S: Serializer> Push<S> {
    fn new(raw: RawPush) -> Self {
        Self {
            raw,
            format: PhantomData,
        }
    }

    /// The route, for example `onMessage`.
    pub fn route(&self) -> &str {
        &self.raw.route
    }

    /// The body as it arrived.
    pub fn body(&self) -> &Bytes {
        &self.raw.body
    }

    /// The body as it arrived, without the push.
    pub fn into_body(self) -> Bytes {
        self.raw.body
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`](nano_protocol::code::BAD_REQUEST) when the body is not an `M`.
    pub fn decode<M: 'static>(&self) -> Result<M>
    where
        S: Decode<M>,
    {
        serialize::decode_message::<S, M>(&self.raw.body)
    }
}

impl<S: Serializer> fmt::Debug for Push<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push")
            .field("route", &self.raw.route)
            .field("body", &self.raw.body)
            .finish()
    }
}
