//! Links that a test opens itself, frame by frame.

use futures_util::stream;
use nano::testing::TestNode;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tonic::{Code, Status, Streaming, transport::Endpoint};

use self::proto::{Batch, Frame, Hello, Kind, SessionOpen, link_client::LinkClient};
use crate::support::within;

#[allow(clippy::all, unreachable_pub, rust_2018_idioms)]
pub(crate) mod proto {
    use tonic_prost::ProstCodec as Codec;

    include!("../../src/cluster/generated/nano.link.v1.rs");
}

pub(crate) fn frame(kind: Kind) -> Frame {
    Frame {
        kind: kind.into(),
        ..Frame::default()
    }
}

pub(crate) fn hello(stream_index: u32, stream: u64) -> Frame {
    hello_from("127.0.0.1:1", 7, stream_index, stream)
}

/// The first frame of a stream of another node.
pub(crate) fn hello_from(address: &str, incarnation: u64, stream_index: u32, stream: u64) -> Frame {
    let hello = Hello {
        address: address.to_owned(),
        incarnation,
        stream_index,
        stream,
        epoch: 0,
    };
    Frame {
        hello: Some(Box::new(hello)),
        ..frame(Kind::Hello)
    }
}

/// Opens a link, sends these batches and ends it. Returns the answers.
///
/// # Errors
/// The code of the refusal.
pub(crate) async fn link(node: &TestNode, batches: Vec<Vec<Frame>>) -> Result<Vec<Frame>, Code> {
    let channel = Endpoint::from_shared(format!("http://{}", node.address()))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let batches = stream::iter(batches.into_iter().map(|frames| Batch { frames }));
    let answers = LinkClient::new(channel)
        .open(batches)
        .await
        .map_err(|status| status.code())?
        .into_inner();
    let mut frames = Vec::new();
    let mut answers = answers;
    while let Some(batch) = within("the end of the stream", answers.message())
        .await
        .map_err(|status| status.code())?
    {
        frames.extend(batch.frames);
    }
    Ok(frames)
}

/// The frame that opens a session of a gate.
pub(crate) fn open(session: i64, number: u64, resumed: bool) -> Frame {
    let open = SessionOpen {
        number,
        resumed,
        ..SessionOpen::default()
    };
    Frame {
        session,
        open: Some(Box::new(open)),
        ..frame(Kind::SessionOpen)
    }
}

/// A link of a test that stays open.
pub(crate) struct RawLink {
    batches: UnboundedSender<Batch>,
    pub(crate) answers: Streaming<Batch>,
}

impl RawLink {
    pub(crate) async fn new(node: &TestNode, hello: Frame) -> Self {
        Self::try_new(node, hello).await.unwrap()
    }

    pub(crate) async fn try_new(node: &TestNode, hello: Frame) -> Result<Self, Status> {
        let channel = Endpoint::from_shared(format!("http://{}", node.address()))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let (batches, queue) = unbounded_channel();
        let queue = stream::unfold(queue, |mut queue| async {
            queue.recv().await.map(|batch| (batch, queue))
        });
        batches
            .send(Batch {
                frames: vec![hello],
            })
            .unwrap();
        let answers = LinkClient::new(channel).open(queue).await?.into_inner();
        Ok(Self { batches, answers })
    }

    pub(crate) fn send(&self, frames: Vec<Frame>) {
        self.batches.send(Batch { frames }).unwrap();
    }
}
