//! One outbound stream: from its connection to its end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use metrics::{Counter, Histogram};
use tonic::{Status, Streaming};
use tracing::debug;

use super::{
    batch::payload,
    config::{CONNECTION_WINDOW, EPOCH, HTTP2_KEEPALIVE, INCARNATION, MAX_BATCH, STREAM_WINDOW},
    detector_wake::DetectorWake,
    handler,
    peer::LinkPeer,
    proto::{Batch, Frame, Kind, link_client::LinkClient},
    stream::LinkStream,
};
use crate::{
    dispatch::Dispatch,
    error::{Error, Result, code},
    handle::Readiness,
    metrics::LinkMetrics,
};

/// Opens a stream and keeps it until it ends. `up` is called when the peer has accepted it.
///
/// # Errors
/// [`code::UNAVAILABLE`] when it does not come up, or breaks.
pub(super) async fn run(
    dispatch: &Dispatch,
    peer: &LinkPeer,
    index: usize,
    number: u64,
    up: impl FnOnce(),
) -> Result {
    let (context, stream) = (&*peer.context, &peer.streams[index]);
    let endpoint = context
        .dialer
        .endpoint(&peer.address)?
        .http2_keep_alive_interval(HTTP2_KEEPALIVE)
        .keep_alive_timeout(HTTP2_KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| unreachable(&error))?;
    let mut client = LinkClient::with_interceptor(channel, context.dialer.credentials.clone())
        .max_decoding_message_size(MAX_BATCH)
        .max_encoding_message_size(MAX_BATCH);

    stream.input(|state| state.connecting(number));
    let outgoing = Outgoing {
        hello: Some(Frame::hello(
            &context.address,
            context.incarnation,
            stream.epoch,
            index,
            number,
        )),
        stream: stream.clone(),
        number,
        detector: context.detector.clone(),
        batches_sent: context.metrics.batches_sent.clone(),
        frames_sent: context.metrics.frames_sent.clone(),
        bytes_sent: context.metrics.bytes_sent.clone(),
        batch_frames: context.metrics.batch_frames.clone(),
    };
    let answer = client
        .open(outgoing)
        .await
        .map_err(|status| refused(&status))?;
    let number_in = |key| answer.metadata().get(key)?.to_str().ok()?.parse().ok();
    peer.check_incarnation(number_in(INCARNATION))?;
    let epoch = number_in(EPOCH).unwrap_or_default();
    let mut effects = Vec::new();
    if peer.context.node.readiness() == Readiness::Draining {
        stream.cordon(true);
    }
    stream.input(|state| state.outbound_up(number, epoch, &mut effects));
    handler::apply(dispatch, peer, index, &mut effects);
    context.detector.wake();
    debug!(peer = %peer.address, stream = index, "link up");
    up();
    let _up = UpGauge::new(&context.metrics);
    read_answers(dispatch, peer, index, answer.into_inner()).await
}

/// Feeds the frames of the answer stream.
async fn read_answers(
    dispatch: &Dispatch,
    peer: &LinkPeer,
    index: usize,
    mut answers: Streaming<Batch>,
) -> Result {
    let mut effects = Vec::new();
    while let Some(batch) = answers.message().await.map_err(|status| refused(&status))? {
        for frame in &batch.frames {
            peer.streams[index].answer(frame, &mut effects)?;
            handler::apply(dispatch, peer, index, &mut effects);
            if frame.kind() == Kind::Idle {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Counts a stream as up until it is dropped.
struct UpGauge<'a>(&'a LinkMetrics);

impl<'a> UpGauge<'a> {
    fn new(metrics: &'a LinkMetrics) -> Self {
        metrics.up.increment(1.0);
        Self(metrics)
    }
}

impl Drop for UpGauge<'_> {
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

/// The HELLO, and then the batches of the link.
struct Outgoing {
    hello: Option<Frame>,
    stream: Arc<LinkStream>,
    number: u64,
    detector: Arc<DetectorWake>,
    batches_sent: Counter,
    frames_sent: Counter,
    bytes_sent: Counter,
    batch_frames: Option<Histogram>,
}

impl Stream for Outgoing {
    type Item = Batch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(Batch {
                frames: vec![hello],
            }));
        }
        let next = self.stream.poll_batch(self.number, cx.waker());
        if let Poll::Ready(Some(batch)) = &next {
            self.batches_sent.increment(1);
            if let Some(frames) = &self.batch_frames {
                frames.record(batch.frames.len() as f64);
            }
            self.frames_sent.increment(batch.frames.len() as u64);
            self.bytes_sent.increment(payload(&batch.frames));
            self.detector.wake();
        }
        next
    }
}
