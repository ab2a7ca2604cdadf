//! The task that keeps one stream to another node up.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use tokio::time::sleep;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::{
    CONNECTION_WINDOW, PROBE, RUN, STREAM_WINDOW,
    proto::{Batch, Frame, Kind, link_client::LinkClient},
    shard::Shard,
};
use crate::{
    cluster::{peer::Peer, peers::Peers},
    error::{Error, Result, code},
    metrics::LinkMetrics,
};

/// How long to wait after the first failure, and after many.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The longest batch: a client's packet is at most 16 MiB.
pub(super) const MAX_BATCH: usize = 32 * 1024 * 1024;

/// Keeps the stream up until the peer is closed.
pub(in crate::cluster) async fn run(peers: Arc<Peers>, peer: Arc<Peer>, index: usize) {
    let mut pause = PAUSE.0;
    while !peer.is_closed() {
        let result = tokio::select! {
            result = serve(&peers, &peer, index, &mut pause) => result,
            () = peer.closed() => break,
        };
        let finished = result.is_ok() && peer.is_finishing();
        match result {
            Ok(()) => debug!(peer = %peer.address, shard = index, "link ended"),
            Err(error) if pause == PAUSE.0 => {
                warn!(peer = %peer.address, shard = index, %error, "link broken")
            }
            Err(error) => debug!(peer = %peer.address, shard = index, %error, "link still broken"),
        }
        if !finished {
            peers.metrics.broken.increment(1);
        }
        peers.outlet_broken(&peer, index);
        if finished {
            break;
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = peer.closed() => {}
        }
        pause = PAUSE.1.min(pause * 2);
    }
}

/// One stream, from its connection to its end.
async fn serve(peers: &Peers, peer: &Peer, index: usize, pause: &mut Duration) -> Result {
    let shard = &peer.shards[index];
    let stream = peers.next_stream();
    let endpoint = peers
        .dialer
        .endpoint(&peer.address)?
        .http2_keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| unreachable(&error))?;
    let mut client = LinkClient::with_interceptor(channel, peers.dialer.credentials.clone())
        .max_decoding_message_size(MAX_BATCH)
        .max_encoding_message_size(MAX_BATCH);

    shard.begin(stream);
    let hello = Frame::hello(&peers.address, peers.incarnation, index, stream);
    let outgoing = Outgoing {
        hello: Some(hello),
        shard: shard.clone(),
        stream,
    };
    let answer = client
        .open(outgoing)
        .await
        .map_err(|status| refused(&status))?;
    peer.check_run(
        answer
            .metadata()
            .get(RUN)
            .and_then(|run| run.to_str().ok()?.parse().ok()),
    )?;
    let incoming = answer.into_inner();
    shard.up(stream);
    peers.bind_again(peer, index);
    info!(peer = %peer.address, shard = index, "link up");
    *pause = PAUSE.0;
    let _up = Up::new(&peers.metrics);
    read(peers, peer, index, incoming).await
}

/// Takes the credit that the other node gives.
async fn read(peers: &Peers, peer: &Peer, index: usize, mut incoming: Streaming<Batch>) -> Result {
    while let Some(batch) = incoming
        .message()
        .await
        .map_err(|status| refused(&status))?
    {
        for frame in batch.frames {
            match frame.kind() {
                Kind::Credit => peer.shards[index].credit(frame.session, frame.credit),
                Kind::SessionUnknown => peers.gone(peer, &frame),
                _ => {
                    return Err(Error::new(
                        code::BAD_REQUEST,
                        "an answer stream carries credit only",
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A link that is up, counted.
struct Up<'a>(&'a LinkMetrics);

impl<'a> Up<'a> {
    fn new(metrics: &'a LinkMetrics) -> Self {
        metrics.up.increment(1.0);
        Self(metrics)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.up.decrement(1.0);
    }
}

fn unreachable(error: &tonic::transport::Error) -> Error {
    let cause = std::error::Error::source(error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    Error::new(code::UNAVAILABLE, format!("{error}{cause}"))
}

fn refused(status: &Status) -> Error {
    Error::new(
        code::UNAVAILABLE,
        format!("{}: {}", status.code(), status.message()),
    )
}

/// The hello, and then what the shard gives to this stream: nothing before the other node has
/// accepted it, for it would be lost if it does not.
struct Outgoing {
    hello: Option<Frame>,
    shard: Arc<Shard>,
    stream: u64,
}

impl Stream for Outgoing {
    type Item = Batch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(Batch {
                frames: vec![hello],
            }));
        }
        self.shard.poll_batch(self.stream, cx)
    }
}
