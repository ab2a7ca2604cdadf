//! Typed registration of handlers; their types are erased here.

use std::{fmt, marker::PhantomData, sync::Arc};

use bytes::Bytes;

use super::{
    erased::{ErasedHandler, Prepare, ServiceConfig},
    invocation::Invocation,
    signature::{FormatOf, HandlerResult, IntoError, Signature},
};
use crate::{
    error::{Error, Result, code},
    scheduler::TaskLabel,
    serialize::{Decode, Encode, Json, Raw, Serializer, decode_message, encode_reply},
    session::SequencedTask,
};

/// Collects the handlers of a component `C` whose messages have the format `S`.
///
/// ```
/// # use std::sync::Arc;
/// use nano::{Component, Handlers, Result, Session};
///
/// struct Account;
///
/// impl Component for Account {
///     fn handlers(h: Handlers<Self>) -> Handlers<Self> {
///         h.on("Name", Self::name)                    // route "Account.Name"
///             .on("Login", Self::login).sequential()  // later messages wait for the login
///             .on("Ban", Self::ban).internal()        // for other services, not for clients
///     }
/// }
///
/// impl Account {
///     fn name(&self, session: &Session, _: ()) -> Result<String> {
///         Ok(format!("player {}", session.uid()))
///     }
///     async fn login(self: Arc<Self>, session: Session, token: String) -> Result<i64> {
///         let uid = verify(&token).await?;
///         session.bind(uid)?;
///         Ok(uid)
///     }
///     fn ban(&self, session: &Session, reason: String) -> Result<bool> {
///         session.kick(reason);
///         Ok(true)
///     }
/// }
/// # async fn verify(token: &str) -> Result<i64> { Ok(token.len() as i64) }
/// ```
pub struct Handlers<C, S: Serializer = Json> {
    component: Arc<C>,
    service: Arc<ServiceConfig>,
    rename: Option<fn(&str) -> String>,
    /// Whether handlers are internal unless they say otherwise.
    internal: bool,
    handlers: Vec<ErasedHandler>,
    /// A modifier that had no handler to modify.
    misplaced: Option<&'static str>,
    format: PhantomData<fn() -> S>,
}

impl<C: Send + Sync + 'static, S: Serializer> Handlers<C, S> {
    pub(super) fn new(
        component: Arc<C>,
        service: Arc<ServiceConfig>,
        rename: Option<fn(&str) -> String>,
        internal: bool,
    ) -> Self {
        Self {
            component,
            service,
            rename,
            internal,
            handlers: Vec::new(),
            misplaced: None,
            format: PhantomData,
        }
    }

    /// Returns the handlers in the order they were registered.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] when a modifier stood before the first handler.
    pub(super) fn finish(self) -> Result<Vec<ErasedHandler>> {
        match self.misplaced {
            Some(modifier) => Err(Error::new(
                code::BAD_REQUEST,
                format!(
                    "component {}: {modifier} stands before any handler",
                    self.service.name
                ),
            )),
            None => Ok(self.handlers),
        }
    }

    /// Registers a handler under the route `Service.name`.
    ///
    /// A handler is a method, or any function, of one of these shapes:
    ///
    /// ```text
    /// fn name(&self, session: &Session<S>, message: M) -> Result<R, E>
    /// fn name(self: &Arc<Self>, session: &Session<S>, message: M) -> Result<R, E>
    /// async fn name(self: Arc<Self>, session: Session<S>, message: M) -> Result<R, E>
    /// ```
    ///
    /// `M` is decoded and `R` encoded in the format `S`. `E` is anything that converts into
    /// [`Error`](crate::Error). A message `()` ignores the payload.
    ///
    /// **A reply `()` answers nothing**: the handler has responded itself, or will, or the message
    /// is a notify. A request that gets no response fails with
    /// [`code::TIMEOUT`](crate::code::TIMEOUT) after the request timeout.
    ///
    /// # Order
    /// Messages of one session start in the order they were sent. A sync handler has returned
    /// before the next message starts. An async handler has run up to its first suspension; then
    /// the next message may overtake it, unless it is [`sequential`](Self::sequential).
    ///
    /// A generic function names the component it is for, as in `.on("Echo", echo::<Self, _>)`: the
    /// compiler cannot choose between `Self` and `Arc<Self>`.
    ///
    /// The future of an async handler must be `Send`: hold no `Rc` and no lock across an `await`.
    #[must_use]
    pub fn on<Shape: 'static, H: Handler<C, S, S, Shape>>(self, name: &str, handler: H) -> Self {
        self.add::<S, Shape, H>(name, handler)
    }

    /// Registers a handler that takes its payload and replies as [`Bytes`], whatever the format.
    ///
    /// The payload shares memory with the other messages of the same read: copy what is kept for
    /// long.
    #[must_use]
    pub fn raw<Shape: 'static, H: Handler<C, S, Raw, Shape>>(self, name: &str, handler: H) -> Self {
        self.add::<Raw, Shape, H>(name, handler)
    }

    /// Closes the handler registered last to clients: for them its route does not exist.
    ///
    /// Other services and nodes still reach it. [`Options::internal`](crate::Options::internal)
    /// closes all handlers of a component. Before the first handler it is a start-up error.
    #[must_use]
    pub fn internal(self) -> Self {
        self.modify("internal()", |handler| handler.internal = true)
    }

    /// Makes the session's next message wait until the future of the handler registered last has
    /// ended.
    ///
    /// For an async login, for example, whose effect the message behind it relies on. Messages of
    /// other sessions go on, and so do messages for handlers of other nodes. The handler must not wait for a later message of its own session, and
    /// needs a time limit of its own: while it runs, the close callbacks of its session wait too. A
    /// sync handler is sequential anyway. Before the first handler it is a start-up error.
    #[must_use]
    pub fn sequential(self) -> Self {
        self.modify("sequential()", |handler| handler.sequential = true)
    }

    fn modify(mut self, modifier: &'static str, change: impl FnOnce(&mut ErasedHandler)) -> Self {
        match self.handlers.last_mut() {
            Some(handler) => change(handler),
            None => self.misplaced = Some(modifier),
        }
        self
    }

    fn add<F: Serializer, Shape: 'static, H: Handler<C, S, F, Shape>>(
        mut self,
        name: &str,
        handler: H,
    ) -> Self {
        let name = self
            .rename
            .map_or_else(|| name.to_owned(), |rename| rename(name));
        let route = format!("{}.{name}", self.service.name);
        self.handlers.push(ErasedHandler {
            label: TaskLabel::new(&route),
            route,
            service: self.service.clone(),
            internal: self.internal,
            sequential: false,
            prepare: handler.erase(self.component.clone()).0,
        });
        self
    }
}

impl<C: Send + Sync + 'static, S: Serializer> Handlers<Arc<C>, S> {
    /// Registers the handlers of `C` for a component `Arc<C>`.
    pub(super) fn through_arc(
        self,
        register: impl FnOnce(Handlers<C, S>) -> Handlers<C, S>,
    ) -> Self {
        let Handlers {
            handlers,
            misplaced,
            ..
        } = register(Handlers {
            component: (*self.component).clone(),
            service: self.service.clone(),
            rename: self.rename,
            internal: self.internal,
            handlers: self.handlers,
            misplaced: self.misplaced,
            format: PhantomData,
        });
        Self {
            handlers,
            misplaced,
            ..self
        }
    }
}

impl<C, S: Serializer> fmt::Debug for Handlers<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.handlers.iter().map(ErasedHandler::route))
            .finish()
    }
}

/// A function that [`Handlers::on`] accepts for a component `C` with sessions of format `S` and
/// payloads of format `F`.
///
/// The parts of its signature have traits of their own, so that the compiler can name the part that
/// is wrong. The message of this trait is for functions that take other arguments.
#[diagnostic::on_unimplemented(
    message = "this function does not take the arguments of a handler of `{C}`",
    label = "expected `fn(&{C}, &Session, Message) -> Result<Reply>`",
    note = "a handler that returns at once: `fn name(&self, session: &Session, message: Message) -> Result<Reply>`",
    note = "or with the component to keep: `fn name(self: &Arc<Self>, session: &Session, message: Message) -> Result<Reply>`",
    note = "a handler that waits owns its arguments: `async fn name(self: Arc<Self>, session: Session, message: Message) -> Result<Reply>`",
    note = "a handler without a message takes `()` in its place; a message owns its data"
)]
pub trait Handler<C, S: Serializer, F: Serializer, Shape>: Sized + Send + Sync + 'static {
    #[doc(hidden)]
    fn erase(self, component: Arc<C>) -> Erased;
}

/// A handler bound to its component.
pub struct Erased(Box<Prepare>);

impl fmt::Debug for Erased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Erased").finish_non_exhaustive()
    }
}

impl<C, S, F, Shape, H> Handler<C, S, F, Shape> for H
where
    H: Signature<C, Shape, Message: Send + 'static, Future: Send + 'static> + Send + Sync + 'static,
    H::Output: HandlerResult<Reply: 'static, Error: IntoError> + 'static,
    F: Decode<H::Message> + Encode<<H::Output as HandlerResult>::Reply>,
    C: Send + Sync + 'static,
    S: FormatOf<H::Format>,
    Shape: 'static,
{
    fn erase(self, component: Arc<C>) -> Erased {
        let bound = Arc::new((self, component));
        Erased(Box::new(move |erased, session, scheduler, body| {
            let message = decode_message::<F, H::Message>(body)?;
            let invocation = Invocation::new(session.typed::<S>(), erased.clone(), scheduler);
            let place = invocation.place();
            let bound = bound.clone();
            let task = move || {
                let (handler, component) = &*bound;
                invocation.run(
                    |session| handler.call(component, S::view(session), message),
                    encode_output::<F, H::Output>,
                );
            };
            Ok(SequencedTask::new(place, Box::new(task)))
        }))
    }
}

/// Encodes what a handler returned; `None` for a reply `()`.
fn encode_output<F, O>(output: O) -> Result<Option<Bytes>>
where
    O: HandlerResult<Reply: 'static, Error: IntoError>,
    F: Encode<O::Reply>,
{
    encode_reply::<F, _>(&output.into_result().map_err(IntoError::into_error)?)
}
