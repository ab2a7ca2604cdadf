//! Calls of the node itself, on behalf of nobody.

use bytes::Bytes;

use super::Handle;
use crate::{
    error::Result,
    serialize::{Decode, Encode, Json, decode_message},
    session::{self, Target},
};

impl Handle {
    /// Asks the service of `route` something in JSON, and waits for its answer:
    /// [`Session::call`](crate::Session::call) on behalf of nobody. The session that the handler
    /// gets has id 0 and no client; each call has its own. A node that has the route itself answers
    /// without the network; else the members that have it take turns by the balancing policy.
    ///
    /// # Errors
    /// As [`Session::call`](crate::Session::call).
    pub fn call<R: 'static, M: ?Sized>(
        &self,
        route: &str,
        message: &M,
    ) -> impl Future<Output = Result<R>> + Send + use<R, M>
    where
        Json: Encode<M> + Decode<R>,
    {
        let answer = self.start(Target::Any, route, Json::encode(message));
        async move { decode_message::<Json, R>(&answer.await?) }
    }

    /// [`call`](Handle::call) of the node with this service address.
    ///
    /// # Errors
    /// As [`call`](Handle::call); [`code::NOT_FOUND`](crate::code::NOT_FOUND) too when no member
    /// has this address.
    pub fn call_to<R: 'static, M: ?Sized>(
        &self,
        address: &str,
        route: &str,
        message: &M,
    ) -> impl Future<Output = Result<R>> + Send + use<R, M>
    where
        Json: Encode<M> + Decode<R>,
    {
        let answer = self.start(
            Target::Node(address.to_owned()),
            route,
            Json::encode(message),
        );
        async move { decode_message::<Json, R>(&answer.await?) }
    }

    /// [`call`](Handle::call) of every node that has the service, this one included: the address of
    /// each with its answer, when all have answered or failed. The address of a node that is in no
    /// cluster is empty.
    ///
    /// # Errors
    /// What the format says of a message it cannot write, and
    /// [`code::UNAVAILABLE`](crate::code::UNAVAILABLE) while the node is not running. What happens
    /// to each call is in the list.
    pub async fn call_all<R: 'static, M: ?Sized>(
        &self,
        route: &str,
        message: &M,
    ) -> Result<Vec<(String, Result<R>)>>
    where
        Json: Encode<M> + Decode<R>,
    {
        let answers = self.call_all_raw(route, Json::encode(message)?);
        let decode =
            |answer: Result<Bytes>| answer.and_then(|body| decode_message::<Json, R>(&body));
        Ok(answers
            .await?
            .into_iter()
            .map(|(address, answer)| (address, decode(answer)))
            .collect())
    }

    /// [`call`](Handle::call) with bytes as they are, for other formats.
    ///
    /// # Errors
    /// As [`call`](Handle::call).
    pub fn call_raw<B: Into<Bytes>>(
        &self,
        route: &str,
        body: B,
    ) -> impl Future<Output = Result<Bytes>> + Send + use<B> {
        self.start(Target::Any, route, Ok(body.into()))
    }

    /// [`call_to`](Handle::call_to) with bytes as they are.
    ///
    /// # Errors
    /// As [`call_to`](Handle::call_to).
    pub fn call_raw_to<B: Into<Bytes>>(
        &self,
        address: &str,
        route: &str,
        body: B,
    ) -> impl Future<Output = Result<Bytes>> + Send + use<B> {
        self.start(Target::Node(address.to_owned()), route, Ok(body.into()))
    }

    /// [`call_all`](Handle::call_all) with bytes as they are.
    ///
    /// # Errors
    /// As [`call_all`](Handle::call_all).
    pub fn call_all_raw<B: Into<Bytes>>(
        &self,
        route: &str,
        body: B,
    ) -> impl Future<Output = Result<Vec<(String, Result<Bytes>)>>> + Send + use<B> {
        let body = body.into();
        let nodes = self
            .sessions()
            .call_router()
            .map(|call_router| call_router.nodes_with(route));
        let started = nodes.map(|nodes| {
            let start = |address: String| {
                let target = if address.is_empty() {
                    Target::Any
                } else {
                    Target::Node(address.clone())
                };
                (address, self.start(target, route, Ok(body.clone())))
            };
            nodes.into_iter().map(start).collect::<Vec<_>>()
        });
        async move {
            let mut answers = Vec::new();
            // All are under way; the order in which they are awaited does not matter.
            for (address, answer) in started? {
                answers.push((address, answer.await));
            }
            Ok(answers)
        }
    }

    fn start(
        &self,
        target: Target,
        route: &str,
        body: Result<Bytes>,
    ) -> impl Future<Output = Result<Bytes>> + Send + use<> {
        session::call(self.sessions(), None, target, route, body)
    }
}
