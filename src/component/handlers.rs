//! Typed registration of handlers, erased in one place.

use std::{fmt, marker::PhantomData, sync::Arc};

use bytes::Bytes;

use super::{
    service::{Invoke, Setup},
    turn::Turn,
};
use crate::{
    error::{Error, Result},
    scheduler::{Scheduler, Task},
    serialize::{Decode, Encode, Json, Raw, Serializer, decode_message, encode_reply},
    session::Session,
};

/// Collects the handlers of a component `C` whose messages have the format `S`.
pub struct Handlers<C, S: Serializer = Json> {
    component: Arc<C>,
    setup: Arc<Setup>,
    rename: Option<fn(&str) -> String>,
    routes: Vec<(String, Arc<dyn Invoke>)>,
    format: PhantomData<fn() -> S>,
}

impl<C: Send + Sync + 'static, S: Serializer> Handlers<C, S> {
    pub(super) fn new(component: Arc<C>, setup: Arc<Setup>, rename: Option<fn(&str) -> String>) -> Self {
        Self { component, setup, rename, routes: Vec::new(), format: PhantomData }
    }

    pub(super) fn into_routes(self) -> Vec<(String, Arc<dyn Invoke>)> {
        self.routes
    }

    /// Names a handler: the route is `Service.name`.
    ///
    /// A handler is a method (or any function) of one of two shapes:
    ///
    /// ```text
    /// fn name(&self, session: &Session<S>, message: M) -> Result<R, E>                       // returns at once
    /// async fn name(self: Arc<Self>, session: Session<S>, message: M) -> Result<R, E>        // waits for something
    /// ```
    ///
    /// `M` is decoded and `R` encoded in the format `S`; `E` is anything that converts into [`Error`]. A message `()` ignores the payload. A
    /// reply `()` means that the handler answered, or will answer, itself.
    #[must_use]
    pub fn on<Shape: 'static, H: Handler<C, S, S, Shape>>(self, name: &str, handler: H) -> Self {
        self.add::<S, Shape, H>(name, handler)
    }

    /// Names a handler that takes the payload as [`Bytes`] and replies with bytes, whatever the format of the component. The payload
    /// shares memory with what arrived beside it: copy what you keep for long.
    #[must_use]
    pub fn raw<Shape: 'static, H: Handler<C, S, Raw, Shape>>(self, name: &str, handler: H) -> Self {
        self.add::<Raw, Shape, H>(name, handler)
    }

    fn add<F: Serializer, Shape: 'static, H: Handler<C, S, F, Shape>>(mut self, name: &str, handler: H) -> Self {
        let name = self.rename.map_or_else(|| name.to_owned(), |rename| rename(name));
        let route = format!("{}.{name}", self.setup.service);
        let bound = Bound {
            route: route.clone(),
            setup: self.setup.clone(),
            component: self.component.clone(),
            handler,
            session: PhantomData,
            format: PhantomData,
            shape: PhantomData,
        };
        self.routes.push((route, Arc::new(bound)));
        self
    }
}

impl<C, S: Serializer> fmt::Debug for Handlers<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.routes.iter().map(|(route, _)| route)).finish()
    }
}

/// A function that [`Handlers::on`] accepts for a component `C` with sessions of format `S` and payloads of format `F`.
#[diagnostic::on_unimplemented(
    message = "this function is not a handler of `{C}` with sessions of the format `{S}`",
    label = "expected `fn(&{C}, &Session<{S}>, Message) -> Result<Reply, Error>`",
    note = "or, to wait for something: `async fn(Arc<{C}>, Session<{S}>, Message) -> Result<Reply, Error>`, whose future must be `Send`",
    note = "the message must be readable and the reply writable in the format `{F}`: with `Json` derive serde's `Deserialize` and `Serialize`; \
            prost messages need `impl Component<Protobuf>` and `Session<Protobuf>`; `Handlers::raw` takes `Bytes`",
    note = "the error must convert into `nano::Error`: implement `std::error::Error` for it, or `From<YourError> for nano::Error`"
)]
pub trait Handler<C, S: Serializer, F: Serializer, Shape>: Sized + Send + Sync + 'static {
    #[doc(hidden)]
    fn prepare(bound: Arc<Bound<C, S, F, Self, Shape>>, session: &Session, scheduler: &Scheduler, body: &Bytes) -> Result<Task>;
}

/// A handler together with its component: one route.
pub struct Bound<C, S, F, H, Shape> {
    pub(super) route: String,
    pub(super) setup: Arc<Setup>,
    component: Arc<C>,
    handler: H,
    session: PhantomData<fn() -> S>,
    format: PhantomData<fn() -> F>,
    shape: PhantomData<fn() -> Shape>,
}

impl<C, S, F, H, Shape> fmt::Debug for Bound<C, S, F, H, Shape> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("route", &self.route).finish_non_exhaustive()
    }
}

impl<C, S, F, H, Shape> Invoke for Bound<C, S, F, H, Shape>
where
    C: Send + Sync + 'static,
    S: Serializer,
    F: Serializer,
    H: Handler<C, S, F, Shape>,
    Shape: 'static,
{
    fn setup(&self) -> &Setup {
        &self.setup
    }

    fn prepare(self: Arc<Self>, session: &Session, scheduler: &Scheduler, body: &Bytes) -> Result<Task> {
        H::prepare(self, session, scheduler, body)
    }
}

/// Marks handlers that return at once.
#[derive(Debug)]
pub struct Direct<M, R, E>(PhantomData<(M, R, E)>);

impl<C, S, F, M, R, E, H> Handler<C, S, F, Direct<M, R, E>> for H
where
    H: Fn(&C, &Session<S>, M) -> Result<R, E> + Send + Sync + 'static,
    C: Send + Sync + 'static,
    S: Serializer,
    F: Decode<M> + Encode<R>,
    M: Send + 'static,
    R: 'static,
    E: Into<Error> + 'static,
{
    fn prepare(bound: Arc<Bound<C, S, F, Self, Direct<M, R, E>>>, session: &Session, _: &Scheduler, body: &Bytes) -> Result<Task> {
        let message = decode_message::<F, M>(body)?;
        let turn = Turn::new(session.typed::<S>(), bound);
        Ok(Box::new(move || {
            turn.run(|bound, session| {
                let reply = (bound.handler)(&bound.component, session, message).map_err(Into::into)?;
                encode_reply::<F, R>(&reply)
            });
        }))
    }
}

/// Marks handlers that wait.
#[derive(Debug)]
pub struct Waiting<M, R, E, Fut>(PhantomData<(M, R, E, Fut)>);

impl<C, S, F, M, R, E, Fut, H> Handler<C, S, F, Waiting<M, R, E, Fut>> for H
where
    H: Fn(Arc<C>, Session<S>, M) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    C: Send + Sync + 'static,
    S: Serializer,
    F: Decode<M> + Encode<R>,
    M: Send + 'static,
    R: 'static,
    E: Into<Error> + 'static,
{
    fn prepare(
        bound: Arc<Bound<C, S, F, Self, Waiting<M, R, E, Fut>>>,
        session: &Session,
        scheduler: &Scheduler,
        body: &Bytes,
    ) -> Result<Task> {
        let message = decode_message::<F, M>(body)?;
        let (turn, scheduler) = (Turn::new(session.typed::<S>(), bound), scheduler.clone());
        Ok(Box::new(move || {
            turn.start(&scheduler, |bound, session| {
                let work = (bound.handler)(bound.component.clone(), session.clone(), message);
                async move { encode_reply::<F, R>(&work.await.map_err(Into::into)?) }
            });
        }))
    }
}
