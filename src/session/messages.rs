//! What a session sends: pushes, responses and one-way messages.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    handle::{Session, SessionSink},
    push::Push,
};
use crate::{
    error::{Error, Result, code},
    serialize::{Encode, Serializer},
};

impl<S: Serializer> Session<S> {
    /// Sends the client a message that no request asked for.
    ///
    /// # Errors
    /// [`code::CLOSED`] when the connection is gone, [`code::TOO_LARGE`] for a route over 255 bytes
    /// or a message over 16 MiB, and the format's error for a message it cannot write. A full
    /// queue closes the connection, unless the node's policy is to drop pushes: then
    /// [`code::TOO_MANY`].
    pub fn push<M: ?Sized>(&self, route: &str, message: &M) -> Result
    where
        S: Encode<M>,
    {
        self.push_raw(route, S::encode(message)?)
    }

    /// [`push`](Session::push) of bytes as they are.
    pub fn push_raw(&self, route: &str, body: impl Into<Bytes>) -> Result {
        self.inner().sink.push(&Push::new(route, body.into()))
    }

    /// Answers the request this handle carries.
    ///
    /// The alternative to returning the reply from the handler. For code that kept a request's id,
    /// [`with_request`](Session::with_request) gives the handle.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] when the handle carries no request (a notify), [`code::CONFLICT`] when
    /// it is answered already or timed out, and as [`push`](Session::push).
    #[doc(alias = "response")]
    #[doc(alias = "ResponseMID")]
    pub fn respond<M: ?Sized>(&self, message: &M) -> Result
    where
        S: Encode<M>,
    {
        self.respond_raw(S::encode(message)?)
    }

    /// [`respond`](Session::respond) of bytes as they are.
    pub fn respond_raw(&self, body: impl Into<Bytes>) -> Result {
        self.answer(Ok(body.into()))
    }

    /// Answers the request with an error reply, as returning the error from the handler does.
    ///
    /// # Errors
    /// As [`respond`](Session::respond).
    pub fn respond_error(&self, error: Error) -> Result {
        self.answer(Err(error.encoded_by(S::encode_error)))
    }

    /// Answers the request, or the call, this handle carries.
    pub(crate) fn answer(&self, answer: Result<Bytes>) -> Result {
        self.answer_at(answer, None)
    }

    /// [`answer`](Self::answer), for callers who may know what time it is.
    pub(crate) fn answer_at(&self, answer: Result<Bytes>, now: Option<Instant>) -> Result {
        if let Some(reply_to) = &self.reply_to {
            // The caller passes it on in a form of its own.
            return reply_to.answer(answer.map_err(Error::without_body));
        }
        if self.request_id() == 0 {
            return Err(Error::new(
                code::BAD_REQUEST,
                "this message is a notify, which takes no response",
            ));
        }
        let (sink, request) = (&self.inner().sink, self.request_id());
        match now {
            Some(now) => sink.respond_at(request, answer, now),
            None => sink.respond(request, answer),
        }
    }

    /// Sends a one-way message to the service of `route`. Its handler sees a notify of this session.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] when no node offers the route, [`code::UNAVAILABLE`] when its member
    /// cannot be reached, [`code::TOO_MANY`] when it cannot take more.
    pub fn rpc<M: ?Sized>(&self, route: &str, message: &M) -> Result
    where
        S: Encode<M>,
    {
        self.inner()
            .sink
            .rpc(&self.typed(), route, S::encode(message)?)
    }

    /// The client's address; `None` for a sink without one.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.inner().sink.remote_addr()
    }

    /// The sink that carries its messages.
    #[doc(alias = "NetworkEntity")]
    pub fn sink(&self) -> &Arc<dyn SessionSink> {
        &self.inner().sink
    }
}
