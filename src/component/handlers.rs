//! Typed registration of handlers, erased in one place.

use std::{fmt, marker::PhantomData, sync::Arc};

use bytes::Bytes;

use super::{
    invocation::{BoundHandler, Invocation},
    service::{Invoke, Setup},
    signature::{FormatOf, IntoError, Outcome, Signature},
};
use crate::{
    error::Result,
    scheduler::Scheduler,
    serialize::{Decode, Encode, Json, Raw, Serializer, decode_message, encode_reply},
    session::{SequencedTask, Session, Ticket},
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
    pub(super) fn new(
        component: Arc<C>,
        setup: Arc<Setup>,
        rename: Option<fn(&str) -> String>,
    ) -> Self {
        Self {
            component,
            setup,
            rename,
            routes: Vec::new(),
            format: PhantomData,
        }
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
    /// The future of one that waits must be `Send`: hold no `Rc` and no lock across an `await`.
    ///
    /// `M` is decoded and `R` encoded in the format `S`; `E` is anything that converts into
    /// [`Error`](crate::Error). A message `()` ignores the payload. A reply `()` means that the
    /// handler answered, or will answer, itself.
    #[must_use]
    pub fn on<Shape: 'static, H: Handler<C, S, S, Shape>>(self, name: &str, handler: H) -> Self {
        self.add::<S, Shape, H>(name, handler)
    }

    /// Names a handler that takes the payload as [`Bytes`] and replies with bytes, whatever the
    /// format of the component. The payload shares memory with what arrived beside it: copy what
    /// you keep for long.
    #[must_use]
    pub fn raw<Shape: 'static, H: Handler<C, S, Raw, Shape>>(self, name: &str, handler: H) -> Self {
        self.add::<Raw, Shape, H>(name, handler)
    }

    fn add<F: Serializer, Shape: 'static, H: Handler<C, S, F, Shape>>(
        mut self,
        name: &str,
        handler: H,
    ) -> Self {
        let name = self
            .rename
            .map_or_else(|| name.to_owned(), |rename| rename(name));
        let route = format!("{}.{name}", self.setup.service);
        let bound = BoundHandler {
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
        f.debug_list()
            .entries(self.routes.iter().map(|(route, _)| route))
            .finish()
    }
}

/// A function that [`Handlers::on`] accepts for a component `C` with sessions of format `S` and
/// payloads of format `F`.
///
/// What is asked of its parts stands in traits of their own, so that the compiler names the part
/// that is wrong; what it says of this trait is left to functions with other arguments.
#[diagnostic::on_unimplemented(
    message = "this function does not take the arguments of a handler of `{C}`",
    label = "expected `fn(&{C}, &Session, Message) -> Result<Reply>`",
    note = "a handler that returns at once: `fn name(&self, session: &Session, message: Message) -> Result<Reply>`",
    note = "a handler that waits owns its arguments: `async fn name(self: Arc<Self>, session: Session, message: Message) -> Result<Reply>`",
    note = "a handler without a message takes `()` in its place; a message owns its data"
)]
pub trait Handler<C, S: Serializer, F: Serializer, Shape>: Sized + Send + Sync + 'static {
    #[doc(hidden)]
    fn prepare(
        bound: Arc<BoundHandler<C, S, F, Self, Shape>>,
        session: &Session,
        scheduler: &Scheduler,
        body: &Bytes,
    ) -> Result<SequencedTask>;
}

impl<C, S, F, H, Shape> Invoke for BoundHandler<C, S, F, H, Shape>
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

    fn prepare(
        self: Arc<Self>,
        session: &Session,
        scheduler: &Scheduler,
        body: &Bytes,
    ) -> Result<SequencedTask> {
        H::prepare(self, session, scheduler, body)
    }
}

impl<C, S, F, Shape, H> Handler<C, S, F, Shape> for H
where
    H: Signature<C, Shape, Message: Send + 'static, Work: Send + 'static> + Send + Sync + 'static,
    H::Output: Outcome<Reply: 'static, Error: IntoError>,
    F: Decode<H::Message> + Encode<<H::Output as Outcome>::Reply>,
    C: Send + Sync + 'static,
    S: FormatOf<H::Format>,
    Shape: 'static,
{
    fn prepare(
        bound: Arc<BoundHandler<C, S, F, Self, Shape>>,
        session: &Session,
        scheduler: &Scheduler,
        body: &Bytes,
    ) -> Result<SequencedTask> {
        let message = decode_message::<F, H::Message>(body)?;
        let ticket = Ticket::new(session.typed::<S>(), scheduler);
        let invocation = Invocation::new(ticket, bound);
        let place = invocation.place();
        let task = Box::new(move || {
            let call = |bound: &BoundHandler<C, S, F, H, Shape>, session: &Session<S>| {
                bound
                    .handler
                    .call(&bound.component, S::view(session), message)
            };
            invocation.run(call, |output: H::Output| {
                encode_reply::<F, _>(&output.into_result().map_err(IntoError::into_error)?)
            });
        });
        Ok(SequencedTask::new(place, task))
    }
}
