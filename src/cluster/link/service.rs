//! The gRPC service on which peers open their streams.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use futures_util::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    config::{EPOCH, INCARNATION, MAX_BATCH, STREAMS},
    peers::LinkPeers,
    proto::{
        Batch, Kind,
        link_server::{self, LinkServer},
    },
    stream::LinkStream,
};

/// Accepts streams for as long as the node runs.
pub(in crate::cluster) struct LinkService(Weak<LinkPeers>);

impl LinkService {
    pub(in crate::cluster) fn new(peers: &Arc<LinkPeers>) -> LinkServer<Self> {
        LinkServer::new(Self(Arc::downgrade(peers)))
            .max_decoding_message_size(MAX_BATCH)
            .max_encoding_message_size(MAX_BATCH)
    }
}

#[tonic::async_trait]
impl link_server::Link for LinkService {
    type OpenStream = Answers;

    async fn open(&self, request: Request<Streaming<Batch>>) -> Result<Response<Answers>, Status> {
        let peers = self
            .0
            .upgrade()
            .ok_or_else(|| Status::unavailable("the node has stopped"))?;
        let mut batches = request.into_inner();
        let first = batches
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("an empty link"))?;
        let mut frames = first.frames.into_iter();
        let hello = frames
            .next()
            .filter(|frame| frame.kind() == Kind::Hello)
            .and_then(|frame| frame.hello)
            .ok_or_else(|| Status::invalid_argument("a link begins with a hello"))?;
        if hello.stream_index as usize >= STREAMS
            || hello.address.is_empty()
            || hello.incarnation == 0
            || hello.stream == 0
        {
            return Err(Status::invalid_argument("a malformed hello"));
        }
        let incarnation = peers.context.incarnation;
        let stream = peers.accept(&hello, frames.collect(), batches).await?;
        let epoch = stream.epoch;
        let mut response = Response::new(Answers {
            stream,
            number: hello.stream,
            ended: false,
        });
        let metadata = response.metadata_mut();
        metadata.insert(INCARNATION, incarnation.into());
        metadata.insert(EPOCH, epoch.into());
        Ok(response)
    }
}

/// The answer stream: CREDIT and SESSION_UNKNOWN.
pub(in crate::cluster) struct Answers {
    stream: Arc<LinkStream>,
    number: u64,
    ended: bool,
}

impl Stream for Answers {
    type Item = Result<Batch, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let batch = self.stream.poll_answers(self.number, cx.waker());
        batch.map(|batch| {
            self.ended = batch.is_none();
            batch.map(Ok)
        })
    }
}
