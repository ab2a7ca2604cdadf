//! Streams that other nodes opened: the gRPC service, and the task that reads one.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use super::{
    RUN, SHARDS,
    outlet::MAX_BATCH,
    proto::{
        Batch, Frame, Kind,
        link_server::{self, LinkServer},
    },
};
use crate::cluster::{
    peer::{Answers, Peer},
    peers::Peers,
};

/// How many frames of credit leave in one batch.
const ANSWERS: usize = 256;

/// The service of this node; it ends with the node.
pub(in crate::cluster) struct Service(Weak<Peers>);

impl Service {
    pub(in crate::cluster) fn new(peers: &Arc<Peers>) -> LinkServer<Self> {
        LinkServer::new(Self(Arc::downgrade(peers)))
            .max_decoding_message_size(MAX_BATCH)
            .max_encoding_message_size(MAX_BATCH)
    }
}

type Credit = Pin<Box<dyn Stream<Item = Result<Batch, Status>> + Send>>;

#[tonic::async_trait]
impl link_server::Link for Service {
    type OpenStream = Credit;

    async fn open(&self, request: Request<Streaming<Batch>>) -> Result<Response<Credit>, Status> {
        let peers = self
            .0
            .upgrade()
            .ok_or_else(|| Status::unavailable("the node has stopped"))?;
        let mut incoming = request.into_inner();
        let first = incoming
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("an empty link"))?;
        let mut frames = first.frames.into_iter();
        let hello = frames.next().filter(|frame| frame.kind() == Kind::Hello);
        let hello = hello
            .and_then(|frame| frame.hello)
            .ok_or_else(|| Status::invalid_argument("a link begins with a hello"))?;
        let shard = hello.stream_index as usize;
        if shard >= SHARDS
            || hello.address.is_empty()
            || hello.incarnation == 0
            || hello.stream == 0
            || hello.stream == u64::MAX
        {
            return Err(Status::invalid_argument("a malformed hello"));
        }
        let run = peers.incarnation;
        let (answer, answers) = mpsc::unbounded_channel();
        let (reading, over) = oneshot::channel();
        let peer = peers.welcome(
            &hello,
            Answers {
                frames: answer,
                _reading: reading,
            },
        )?;
        tokio::spawn(async move {
            tokio::select! {
                () = read(peers, peer, shard, hello.stream, frames.collect(), incoming) => {}
                // Given up on, or replaced by a newer one.
                _ = over => {}
            }
        });
        let mut response: Response<Credit> = Response::new(Box::pin(batches(answers)));
        response.metadata_mut().insert(RUN, run.into());
        Ok(response)
    }
}

/// Puts together what is there. The number of frames is bounded by what the other node sends.
fn batches(
    answers: mpsc::UnboundedReceiver<Frame>,
) -> impl Stream<Item = Result<Batch, Status>> + Send {
    stream::unfold(answers, |mut answers| async move {
        let mut frames = Vec::new();
        match answers.recv_many(&mut frames, ANSWERS).await {
            0 => None,
            _ => Some((Ok(Batch { frames }), answers)),
        }
    })
    .fuse()
}

/// Reads one stream to its end. It waits for nothing else, so that no session delays another.
async fn read(
    peers: Arc<Peers>,
    peer: Arc<Peer>,
    shard: usize,
    stream: u64,
    first: Vec<Frame>,
    mut incoming: Streaming<Batch>,
) {
    let mut frames = first;
    loop {
        if !peers.receive(&peer, shard, stream, frames) {
            debug!(peer = %peer.address, shard, "replaced by a newer link");
            return;
        }
        let next = tokio::select! {
            next = incoming.message() => next,
            () = peer.closed() => return,
        };
        match next {
            Ok(Some(batch)) => frames = batch.frames,
            Ok(None) => break debug!(peer = %peer.address, shard, "the other node ended its link"),
            Err(status) => {
                break warn!(peer = %peer.address, shard, code = %status.code(), error = status.message(), "link lost");
            }
        }
    }
    peers.inlet_broken(&peer, shard, stream);
}
