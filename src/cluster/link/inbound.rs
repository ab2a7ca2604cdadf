//! Inbound streams: one task reads all streams of one peer and stream index, one after the other.
//! So the effects of a stream are applied in order, and those of the next one after them, without a
//! lock that is held over the application's code.

use std::{pin::pin, sync::Arc};

use tokio::{sync::mpsc::UnboundedReceiver, task::yield_now, time::Instant};
use tonic::Status;
use tracing::{debug, warn};

use super::{
    batch::payload,
    effect::Effect,
    frame::is_traffic,
    handler,
    peer::{InboundStream, LinkPeer},
    proto::Frame,
};
use crate::{
    dispatch::Dispatch,
    error::{Result, code},
    session::Session,
};

/// Frames that are handled in one turn of the task: megabytes of them may be buffered, and the tasks of
/// the connections that share the thread answer HTTP/2 pings, without which the peer closes the link.
/// They are counted here, so that no frame is followed by an await.
const TURN: usize = 128;

/// Reads one stream until it ends, or until the peer opens the next one, which is returned.
///
/// It waits for nothing but frames, so that no session delays another.
pub(super) async fn read(
    dispatch: &Dispatch,
    peer: &Arc<LinkPeer>,
    index: usize,
    inbound: InboundStream,
    streams: &mut UnboundedReceiver<InboundStream>,
) -> Option<InboundStream> {
    let InboundStream {
        number,
        epoch,
        mut frames,
        mut batches,
        accepted,
    } = inbound;
    let stream = &peer.streams[index];
    let (mut effects, mut left) = (Vec::new(), TURN);
    let result = stream.input(|state| state.accept(number, epoch, Instant::now(), &mut effects));
    handler::apply(dispatch, peer, index, &mut effects);
    peer.context.detector.wake();
    let refused = result.is_err();
    // If the peer has given up already, the first read fails.
    let _ = accepted.send(accept_status(result));
    if refused {
        return None;
    }
    debug!(peer = %peer.address, stream = index, "link accepted");
    // Once for all batches: each would subscribe to both.
    let mut stream_closed = pin!(stream.inbound_closed());
    let mut peer_closed = pin!(peer.closed());
    loop {
        if !hear(dispatch, peer, index, (number, &frames), &mut effects) {
            return None;
        }
        let mut batch = frames.into_iter();
        while batch.len() > 0 {
            let next = batch.by_ref().take(left);
            left = left.saturating_sub(next.len());
            if !receive(dispatch, peer, index, (number, next), &mut effects) {
                return None;
            }
            if left == 0 {
                left = TURN;
                yield_now().await;
            }
        }
        stream.acknowledge_user_pushes();
        let next = loop {
            tokio::select! {
                next = batches.message() => break next,
                Some(newer) = streams.recv() => return Some(newer),
                // The signal may be meant for an earlier stream.
                () = &mut stream_closed => {
                    stream_closed.set(stream.inbound_closed());
                    if !stream.read(|state| state.is_current(number)) {
                        return None;
                    }
                }
                () = &mut peer_closed => return None,
            }
        };
        match next {
            Ok(Some(batch)) => frames = batch.frames,
            Ok(None) => break debug!(peer = %peer.address, stream = index, "peer ended its link"),
            Err(_) if !stream.read(|state| state.is_current(number)) => break,
            Err(status) => {
                break warn!(peer = %peer.address, stream = index, code = %status.code(), error = status.message(), "link lost");
            }
        }
    }
    stream.input(|state| state.inbound_down(number, Instant::now(), &mut effects));
    handler::apply(dispatch, peer, index, &mut effects);
    peer.context.detector.wake();
    None
}

/// Notes that a batch has arrived. False when the stream is not the current one any more.
fn hear(
    dispatch: &Dispatch,
    peer: &Arc<LinkPeer>,
    index: usize,
    (number, frames): (u64, &[Frame]),
    effects: &mut Vec<Effect<Session>>,
) -> bool {
    let traffic = is_traffic(frames);
    let heard = peer.streams[index].input(|state| state.hear(number, traffic, effects));
    handler::apply(dispatch, peer, index, effects);
    if heard {
        peer.context.detector.wake();
        let metrics = &peer.context.metrics;
        metrics.frames_received.increment(frames.len() as u64);
        metrics.bytes_received.increment(payload(frames));
    }
    heard
}

/// Feeds the next frames of a batch, and applies what follows from each. False when the stream is not
/// the current one any more.
fn receive(
    dispatch: &Dispatch,
    peer: &Arc<LinkPeer>,
    index: usize,
    (number, frames): (u64, impl Iterator<Item = Frame>),
    effects: &mut Vec<Effect<Session>>,
) -> bool {
    let stream = &peer.streams[index];
    let remember = peer.context.has_outside_nodes();
    for frame in frames {
        // Only deadlines need the time.
        let now = Instant::now;
        let current = stream.frame(|state| {
            state.receive(number, frame, now, remember, effects, &mut |new| {
                peer.open_session(&new)
            })
        });
        handler::apply(dispatch, peer, index, effects);
        if !current {
            return false;
        }
    }
    true
}

fn accept_status(result: Result) -> Result<(), Status> {
    result.map_err(|error| match error.code() {
        code::CONFLICT => Status::failed_precondition("a later link is known"),
        _ => Status::unavailable("the node is gone"),
    })
}
