//! The parts of a handler's signature.
//!
//! Each part that can be wrong has a trait of its own, so that the compiler names that part.

use std::{future, marker::PhantomData, sync::Arc};

use crate::{
    error::{Error, Result},
    serialize::Serializer,
    session::Session,
};

/// A function that takes the arguments of a handler of `C`, of whatever types.
///
/// [`Handler`](super::Handler) carries the compiler's message for functions that do not.
pub trait Signature<C, Shape> {
    /// The format of its session.
    type Format: Serializer;
    /// Its message.
    type Message;
    /// What it returns, or its future resolves to.
    type Output;
    /// The future of an async handler.
    type Future: Future<Output = Self::Output>;

    /// Calls the function.
    fn call(
        &self,
        component: &Arc<C>,
        session: &Session<Self::Format>,
        message: Self::Message,
    ) -> HandlerCall<Self::Output, Self::Future>;
}

/// What a call of a handler returned: its output, or a future of it.
#[derive(Debug)]
pub enum HandlerCall<Output, Future> {
    /// A sync handler has returned.
    Ready(Output),
    /// An async handler has yet to run.
    Pending(Future),
}

/// Marks handlers `fn(&self, &Session, M) -> O`.
#[derive(Debug)]
pub struct SyncHandler<T, M, O>(PhantomData<(T, M, O)>);

impl<C, T, M, O, H> Signature<C, SyncHandler<T, M, O>> for H
where
    H: Fn(&C, &Session<T>, M) -> O,
    T: Serializer,
{
    type Format = T;
    type Message = M;
    type Output = O;
    type Future = future::Pending<O>;

    fn call(
        &self,
        component: &Arc<C>,
        session: &Session<T>,
        message: M,
    ) -> HandlerCall<O, future::Pending<O>> {
        HandlerCall::Ready(self(component, session, message))
    }
}

/// Marks handlers `fn(self: &Arc<Self>, &Session, M) -> O`.
#[derive(Debug)]
pub struct SharedHandler<T, M, O>(PhantomData<(T, M, O)>);

impl<C, T, M, O, H> Signature<C, SharedHandler<T, M, O>> for H
where
    H: Fn(&Arc<C>, &Session<T>, M) -> O,
    T: Serializer,
{
    type Format = T;
    type Message = M;
    type Output = O;
    type Future = future::Pending<O>;

    fn call(
        &self,
        component: &Arc<C>,
        session: &Session<T>,
        message: M,
    ) -> HandlerCall<O, future::Pending<O>> {
        HandlerCall::Ready(self(component, session, message))
    }
}

/// Marks handlers `async fn(self: Arc<Self>, Session, M) -> O`.
#[derive(Debug)]
pub struct AsyncHandler<T, M, W>(PhantomData<(T, M, W)>);

impl<C, T, M, W, H> Signature<C, AsyncHandler<T, M, W>> for H
where
    H: Fn(Arc<C>, Session<T>, M) -> W,
    W: Future,
    T: Serializer,
{
    type Format = T;
    type Message = M;
    type Output = W::Output;
    type Future = W;

    fn call(
        &self,
        component: &Arc<C>,
        session: &Session<T>,
        message: M,
    ) -> HandlerCall<W::Output, W> {
        HandlerCall::Pending(self(component.clone(), session.clone(), message))
    }
}

/// A component's format as the format of a handler's session, `T`: the two must be the same.
///
/// Implemented on the component's format, which is known, so that the format of a generic handler
/// is inferred.
#[diagnostic::on_unimplemented(
    message = "this handler takes a session of the format `{T}`, but the format of its component is `{Self}`",
    label = "the session must be a `Session<{Self}>`",
    note = "`Session` alone is `Session<Json>`, and `impl Component` alone is `impl Component<Json>`: both need the same format",
    note = "inside the handler `session.typed::<{T}>()` gives the same session in the other format"
)]
pub trait FormatOf<T: Serializer>: Serializer {
    /// Returns the session as the handler takes it.
    fn view(session: &Session<Self>) -> &Session<T>;
}

impl<S: Serializer> FormatOf<S> for S {
    fn view(session: &Session<S>) -> &Session<S> {
        session
    }
}

/// What a handler may return: a [`Result`].
#[diagnostic::on_unimplemented(
    message = "a handler returns a `Result`, not `{Self}`",
    label = "this handler returns `{Self}`",
    note = "return `nano::Result<Reply>`: `Ok(reply)`, or `Ok(())` when there is no reply or it comes later"
)]
pub trait HandlerResult {
    /// The reply.
    type Reply;
    /// The error.
    type Error;

    /// Returns the value as a `Result`.
    fn into_result(self) -> Result<Self::Reply, Self::Error>;
}

impl<R, E> HandlerResult for Result<R, E> {
    type Reply = R;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

/// What the error of a handler may be: anything that converts into [`Error`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a handler: it does not convert into `nano::Error`",
    label = "the error of this handler is `{Self}`",
    note = "to choose code and message that the client gets: `impl From<{Self}> for nano::Error`",
    note = "or implement `std::error::Error` for `{Self}`: the client then gets the code `NANO-500`, and the log its text"
)]
pub trait IntoError {
    /// Converts the error.
    fn into_error(self) -> Error;
}

#[diagnostic::do_not_recommend]
impl<E: Into<Error>> IntoError for E {
    fn into_error(self) -> Error {
        self.into()
    }
}
