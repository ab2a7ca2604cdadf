//! Who listens to what the server pushes.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::poll_fn,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tracing::{error, trace};

use crate::{
    error::Result,
    serialize::{self, Decode, Json, Serializer},
};

#[derive(Default)]
pub(super) struct Listeners(Mutex<Table>);

#[derive(Default)]
struct Table {
    routes: HashMap<String, Arc<[Listener]>>,
    closed: bool,
}

#[derive(Clone)]
enum Listener {
    Callback(Arc<dyn Fn(Bytes) + Send + Sync>),
    Queue(Arc<Queue>),
}

impl Listeners {
    pub(super) fn on(&self, route: String, callback: impl Fn(Bytes) + Send + Sync + 'static) {
        self.add(route, Listener::Callback(Arc::new(callback)));
    }

    pub(super) fn subscribe<S: Serializer>(
        listeners: &Arc<Self>,
        route: String,
    ) -> Subscription<S> {
        let queue = Arc::new(Queue::default());
        listeners.add(route.clone(), Listener::Queue(queue.clone()));
        Subscription {
            route,
            queue,
            listeners: listeners.clone(),
            format: PhantomData,
        }
    }

    fn add(&self, route: String, listener: Listener) {
        let mut table = self.0.lock();
        if table.closed {
            drop(table);
            return listener.end();
        }
        let listeners = table.routes.entry(route).or_insert_with(|| Arc::new([]));
        *listeners = listeners.iter().cloned().chain([listener]).collect();
    }

    fn remove(&self, route: &str, queue: &Arc<Queue>) {
        let mut table = self.0.lock();
        let Some(listeners) = table.routes.get_mut(route) else {
            return;
        };
        *listeners = listeners
            .iter()
            .filter(
                |listener| !matches!(listener, Listener::Queue(other) if Arc::ptr_eq(queue, other)),
            )
            .cloned()
            .collect();
        if listeners.is_empty() {
            table.routes.remove(route);
        }
    }

    /// Gives a push to all who listen to its route. No lock is held while callbacks run, so they
    /// may listen to more.
    pub(super) fn deliver(&self, route: &str, body: &Bytes) {
        let listeners = self.0.lock().routes.get(route).cloned();
        let Some(listeners) = listeners else {
            return trace!(route, "nobody listens to this push");
        };
        for listener in &*listeners {
            match listener {
                Listener::Callback(callback) => {
                    if catch_unwind(AssertUnwindSafe(|| callback(body.clone()))).is_err() {
                        error!(route, "a callback panicked");
                    }
                }
                Listener::Queue(queue) => queue.push(body.clone()),
            }
        }
    }

    /// Lets go of all callbacks, which may hold the client, and ends all subscriptions.
    pub(super) fn close(&self) {
        let mut table = self.0.lock();
        table.closed = true;
        let routes = std::mem::take(&mut table.routes);
        drop(table);
        routes
            .values()
            .flat_map(|listeners| &**listeners)
            .for_each(Listener::end);
    }
}

impl Listener {
    fn end(&self) {
        if let Self::Queue(queue) = self {
            queue.change(|state| state.closed = true);
        }
    }
}

#[derive(Default)]
struct Queue(Mutex<State>);

#[derive(Default)]
struct State {
    bodies: VecDeque<Bytes>,
    missed: u64,
    closed: bool,
    receiver: Option<Waker>,
}

impl Queue {
    fn push(&self, body: Bytes) {
        self.change(|state| {
            if state.bodies.len() == CAPACITY {
                state.bodies.pop_front();
                state.missed += 1;
            }
            state.bodies.push_back(body);
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        change(&mut state);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    fn poll_pop(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.0.lock();
        match state.bodies.pop_front() {
            Some(body) => Poll::Ready(Some(body)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// How many pushes a subscription holds.
const CAPACITY: usize = 1024;

/// The pushes of one route, for a task that waits for them; made by
/// [`Client::subscribe`](super::Client::subscribe).
///
/// It holds up to 1024 pushes. When another one arrives, the oldest is dropped and counted in
/// [`missed`](Subscription::missed): a slow reader delays neither answers nor other listeners. It
/// does not keep the connection open, and hands out what it holds after the connection has closed.
#[must_use = "a subscription that is dropped listens to nothing"]
pub struct Subscription<S: Serializer = Json> {
    route: String,
    queue: Arc<Queue>,
    listeners: Arc<Listeners>,
    format: PhantomData<fn() -> S>,
}

impl<S: Serializer> Subscription<S> {
    /// Waits for the next push; `None` once the connection is closed. Cancellation safe.
    pub async fn recv(&mut self) -> Option<Bytes> {
        poll_fn(|cx| self.queue.poll_pop(cx)).await
    }

    /// [`recv`](Subscription::recv), decoded. A push that is no `M` is consumed.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`](crate::code::BAD_REQUEST) when the push is no `M`.
    pub async fn recv_as<M: 'static>(&mut self) -> Option<Result<M>>
    where
        S: Decode<M>,
    {
        let body = self.recv().await?;
        Some(serialize::decode_message::<S, M>(&body))
    }

    /// The next push, if it is here already.
    pub fn try_recv(&mut self) -> Option<Bytes> {
        self.queue.0.lock().bodies.pop_front()
    }

    /// How many pushes were dropped because they were not received in time.
    pub fn missed(&self) -> u64 {
        self.queue.0.lock().missed
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
