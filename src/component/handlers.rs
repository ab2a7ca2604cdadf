//! Typed registration of handlers; their types are erased here.

use std::{fmt, marker::PhantomData, sync::Arc};

use bytes::Bytes;
use bytestring::ByteString;

use super::{
    erased::{ErasedHandler, Prepare, ServiceConfig},
    filtered::FilteredCall,
    invocation::Invocation,
    signature::{FormatOf, HandlerResult, IntoError, Signature},
};
use crate::{
    error::{Error, Result, code},
    filter::{self, Chain, IntoFilter, MessageType},
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
    /// The first fault of the registration, for the start of the node to report.
    fault: Option<String>,
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
            fault: None,
            format: PhantomData,
        }
    }

    /// Returns the handlers in the order they were registered.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] names the fault: a modifier before the first handler, a check of another
    /// type than its handler's message.
    pub(super) fn finish(self) -> Result<Vec<ErasedHandler>> {
        match self.fault {
            Some(fault) => Err(Error::new(
                code::BAD_REQUEST,
                format!("component {}: {fault}", self.service.name),
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

    /// Drops the future of the handler registered last when nothing waits for its answer any more,
    /// as [`Session::cancelled`](crate::Session::cancelled) says.
    ///
    /// A call that the handler waits for is cancelled with it, and so on from node to node. The
    /// future is dropped where it waits: everything it does must be safe to stop there. Without
    /// this a handler runs to its end. It changes nothing for a sync handler. Before the first
    /// handler it is a start-up error.
    #[must_use]
    pub fn cancellable(self) -> Self {
        self.modify("cancellable()", |handler| handler.cancellable = true)
    }

    /// Installs a filter on the handler registered last, behind those of the node and the service.
    ///
    /// Before the first handler it is a start-up error.
    #[must_use]
    pub fn filter<Kind>(self, filter: impl IntoFilter<Kind>) -> Self {
        let filter = filter.into_filter();
        self.modify("filter()", |handler| handler.filters.push(filter))
    }

    /// Checks the messages of the handler registered last: one for which `check` returns an error is
    /// refused with it, as by a [`filter`](Handlers::filter).
    ///
    /// ```
    /// # use nano::{Component, Error, Handlers, Result, Session};
    /// # struct Room;
    /// # #[derive(serde::Deserialize)]
    /// # struct Say { text: String }
    /// impl Component for Room {
    ///     fn handlers(h: Handlers<Self>) -> Handlers<Self> {
    ///         h.on("Say", Self::say).validate(|say: &Say| match say.text.len() {
    ///             1..=200 => Ok(()),
    ///             _ => Err(Error::bad_request("from 1 to 200 letters")),
    ///         })
    ///     }
    /// }
    /// # impl Room { fn say(&self, _: &Session, _: Say) -> Result { Ok(()) } }
    /// ```
    ///
    /// A check of another type than the handler takes, or before the first handler, is a start-up
    /// error.
    #[must_use]
    pub fn validate<M: 'static>(
        mut self,
        check: impl Fn(&M) -> Result + Send + Sync + 'static,
    ) -> Self {
        let checked = MessageType::of::<M>();
        if let Some(handler) = self.handlers.last()
            && handler.message != checked
        {
            self.fault.get_or_insert(format!(
                "{} takes a {}, its check a {}",
                handler.route, handler.message.name, checked.name
            ));
        }
        let filter = filter::validate(check).into_filter();
        self.modify("validate()", |handler| handler.filters.push(filter))
    }

    fn modify(mut self, modifier: &'static str, change: impl FnOnce(&mut ErasedHandler)) -> Self {
        match self.handlers.last_mut() {
            Some(handler) => change(handler),
            None => {
                let fault = format!("{modifier} stands before any handler");
                self.fault.get_or_insert(fault);
            }
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
        let route = ByteString::from(format!("{}.{name}", self.service.name));
        let erased = handler.erase(self.component.clone());
        self.handlers.push(ErasedHandler {
            label: TaskLabel::new(&route),
            measured: self.service.reporter.metrics.route(&route),
            route,
            service: self.service.clone(),
            internal: self.internal,
            sequential: false,
            cancellable: false,
            encode_error: S::encode_error,
            message: erased.message,
            reply: erased.reply,
            filters: Vec::new(),
            chain: Chain::default(),
            prepare: erased.prepare,
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
            handlers, fault, ..
        } = register(Handlers {
            component: (*self.component).clone(),
            service: self.service.clone(),
            rename: self.rename,
            internal: self.internal,
            handlers: self.handlers,
            fault: self.fault,
            format: PhantomData,
        });
        Self {
            handlers,
            fault,
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
pub struct Erased {
    message: MessageType,
    reply: MessageType,
    prepare: Box<Prepare>,
}

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
        let prepare: Box<Prepare> = Box::new(move |erased, session, scheduler, body, arrived| {
            let message = decode_message::<F, H::Message>(body)?;
            let invocation =
                Invocation::new(session.typed::<S>(), erased.clone(), scheduler, arrived);
            let place = invocation.place();
            let bound = bound.clone();
            if !erased.chain.is_empty() {
                let call = FilteredCall::new(invocation, message);
                let task = move || {
                    call.run(
                        move |session, message| {
                            let (handler, component) = &*bound;
                            handler.call(component, S::view(session), message)
                        },
                        into_reply::<H::Output>,
                        encode_reply::<F, _>,
                    );
                };
                return Ok(SequencedTask::new(place, Box::new(task)));
            }
            let task = move || {
                let (handler, component) = &*bound;
                invocation.run(
                    |session| handler.call(component, S::view(session), message),
                    encode_output::<F, H::Output>,
                );
            };
            Ok(SequencedTask::new(place, Box::new(task)))
        });
        Erased {
            message: MessageType::of::<H::Message>(),
            reply: MessageType::of::<<H::Output as HandlerResult>::Reply>(),
            prepare,
        }
    }
}

/// The result of a handler, with an error of this crate.
fn into_reply<O>(output: O) -> Result<O::Reply>
where
    O: HandlerResult<Error: IntoError>,
{
    output.into_result().map_err(IntoError::into_error)
}

/// Encodes what a handler returned; `None` for a reply `()`.
fn encode_output<F, O>(output: O) -> Result<Option<Bytes>>
where
    O: HandlerResult<Reply: 'static, Error: IntoError>,
    F: Encode<O::Reply>,
{
    encode_reply::<F, _>(&into_reply(output)?)
}
