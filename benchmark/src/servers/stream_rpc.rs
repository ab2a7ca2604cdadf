//! The gRPC service of the stream baseline, by hand: one method, batches both ways.

use std::{
    convert::Infallible,
    future::{self, Ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{BoxFuture, Service, http, tokio_stream::Stream},
    server::{Grpc, NamedService, StreamingService},
};
use tonic_prost::ProstCodec;

pub(crate) const METHOD: &str = "/nano.bench.Stream/Open";

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Batch {
    #[prost(message, repeated, tag = "1")]
    pub(crate) frames: Vec<Frame>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Frame {
    #[prost(uint64, tag = "1")]
    pub(crate) client: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) id: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) route: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) body: Bytes,
}

pub(crate) type Batches = Pin<Box<dyn Stream<Item = Result<Batch, Status>> + Send>>;

/// A service whose only method is `open`.
#[derive(Clone, Copy)]
pub(crate) struct Open(pub(crate) fn(Streaming<Batch>) -> Batches);

impl NamedService for Open {
    const NAME: &'static str = "nano.bench.Stream";
}

impl Service<http::Request<Body>> for Open {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = *self;
        Box::pin(async move {
            Ok(Grpc::new(ProstCodec::<Batch, Batch>::default())
                .streaming(method, request)
                .await)
        })
    }
}

impl StreamingService<Batch> for Open {
    type Response = Batch;
    type ResponseStream = Batches;
    type Future = Ready<Result<Response<Batches>, Status>>;

    fn call(&mut self, request: Request<Streaming<Batch>>) -> Self::Future {
        future::ready(Ok(Response::new((self.0)(request.into_inner()))))
    }
}
