//! What a handler may look like: one trait for each thing that can be wrong with it, so that the
//! compiler names that thing.

use std::{future::Pending, marker::PhantomData, sync::Arc};

use crate::{
    error::{Error, Result},
    serialize::Serializer,
    session::Session,
};

/// A function that takes the arguments of a handler of `C`, whatever its types are. What the
/// compiler says without it stands on [`Handler`](super::Handler), where it is asked for.
pub trait Signature<C, Shape> {
    /// The format of its session.
    type Format: Serializer;
    /// Its message.
    type Message;
    /// What it returns in the end.
    type Output;
    /// What remains to be done when the call has returned.
    type Work: Future<Output = Self::Output>;

    /// Calls it.
    fn call(
        &self,
        component: &Arc<C>,
        session: &Session<Self::Format>,
        message: Self::Message,
    ) -> Called<Self::Output, Self::Work>;
}

/// What a call of a handler leaves behind.
#[derive(Debug)]
pub enum Called<Output, Work> {
    /// It has returned.
    Returned(Output),
    /// It waits, or will.
    Waits(Work),
}

/// Marks handlers that return at once.
#[derive(Debug)]
pub struct Direct<T, M, O>(PhantomData<(T, M, O)>);

impl<C, T, M, O, H> Signature<C, Direct<T, M, O>> for H
where
    H: Fn(&C, &Session<T>, M) -> O,
    T: Serializer,
{
    type Format = T;
    type Message = M;
    type Output = O;
    type Work = Pending<O>;

    fn call(&self, component: &Arc<C>, session: &Session<T>, message: M) -> Called<O, Pending<O>> {
        Called::Returned(self(component, session, message))
    }
}

/// Marks handlers that wait.
#[derive(Debug)]
pub struct Waiting<T, M, W>(PhantomData<(T, M, W)>);

impl<C, T, M, W, H> Signature<C, Waiting<T, M, W>> for H
where
    H: Fn(Arc<C>, Session<T>, M) -> W,
    W: Future,
    T: Serializer,
{
    type Format = T;
    type Message = M;
    type Output = W::Output;
    type Work = W;

    fn call(&self, component: &Arc<C>, session: &Session<T>, message: M) -> Called<W::Output, W> {
        Called::Waits(self(component.clone(), session.clone(), message))
    }
}

/// A component's format as the format of a handler's session, `T`: they are the same. Asked of the
/// component's side, which is known, so that a generic handler's is inferred.
#[diagnostic::on_unimplemented(
    message = "this handler takes a session of the format `{T}`, but the format of its component is `{Self}`",
    label = "the session must be a `Session<{Self}>`",
    note = "`Session` alone is `Session<Json>`, and `impl Component` alone is `impl Component<Json>`: both need the same format",
    note = "inside the handler `session.typed::<{T}>()` gives the same session in the other format"
)]
pub trait FormatOf<T: Serializer>: Serializer {
    /// The session as the handler takes it.
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
pub trait Outcome {
    /// The reply.
    type Reply;
    /// The error.
    type Error;

    /// The same, as a `Result`.
    fn into_result(self) -> Result<Self::Reply, Self::Error>;
}

impl<R, E> Outcome for Result<R, E> {
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
    note = "or implement `std::error::Error` for `{Self}`: the client then gets the code `NANO-500` and its text"
)]
pub trait IntoError {
    /// The conversion.
    fn into_error(self) -> Error;
}

#[diagnostic::do_not_recommend]
impl<E: Into<Error>> IntoError for E {
    fn into_error(self) -> Error {
        self.into()
    }
}
