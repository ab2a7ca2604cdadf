//! Gate and backend over one bare stream: whatever waits when the stream is ready is a batch.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use nano::Result;
use parking_lot::RwLock;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codegen::{http::uri::PathAndQuery, tokio_stream::Stream},
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use super::{
    framing::{respond, take},
    send_queue::{SendQueue, Writing},
    stream_rpc::{Batch, Batches, Frame, METHOD, Open},
};

/// The most frames of one batch, and how many may wait.
const BATCH: usize = 1_024;
const QUEUE: usize = 16 * 1_024;

type Clients = Arc<RwLock<HashMap<u64, Arc<SendQueue>>>>;

pub(crate) async fn backend(listener: TcpListener) -> Result {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(Server::builder()
        .add_service(Open(answer))
        .serve_with_incoming(incoming)
        .await?)
}

/// Sends back every frame, as a server would that hands each to a handler.
fn answer(mut requests: Streaming<Batch>) -> Batches {
    let (answers, queued) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Ok(Some(batch)) = requests.message().await {
            for frame in batch.frames {
                let Frame {
                    client, id, body, ..
                } = frame;
                if answers
                    .send(Frame {
                        client,
                        id,
                        body,
                        ..Frame::default()
                    })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    });
    Box::pin(Outgoing {
        queued,
        map: Ok::<_, Status>,
    })
}

pub(crate) async fn gate(listener: TcpListener, backend: SocketAddr) -> Result {
    let channel = Endpoint::from_shared(format!("http://{backend}"))?
        .tcp_nodelay(true)
        .connect()
        .await?;
    let (frames, queued) = mpsc::channel(QUEUE);
    let clients = Clients::default();
    let mut rpc = Grpc::new(channel);
    rpc.ready().await?;
    let outgoing = Outgoing {
        queued,
        map: |batch| batch,
    };
    let codec = ProstCodec::<Batch, Batch>::default();
    let answers = rpc
        .streaming(
            Request::new(outgoing),
            PathAndQuery::from_static(METHOD),
            codec,
        )
        .await?
        .into_inner();
    tokio::spawn(deliver(answers, clients.clone()));
    for client in 0.. {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(serve(socket, client, frames.clone(), clients.clone()));
    }
    Ok(())
}

async fn deliver(mut answers: Streaming<Batch>, clients: Clients) {
    while let Ok(Some(batch)) = answers.message().await {
        let clients = clients.read();
        for frame in batch.frames {
            if let Some(send_queue) = clients.get(&frame.client) {
                send_queue.append(|out| respond(frame.id, &frame.body, out));
            }
        }
    }
}

async fn serve(socket: TcpStream, client: u64, frames: mpsc::Sender<Frame>, clients: Clients) {
    let send_queue = Arc::new(SendQueue::default());
    clients.write().insert(client, send_queue.clone());
    // A client that goes is the end of its task and nothing else.
    receive(socket, client, &send_queue, &frames)
        .await
        .unwrap_or_default();
    clients.write().remove(&client);
}

async fn receive(
    mut socket: TcpStream,
    client: u64,
    send_queue: &SendQueue,
    frames: &mpsc::Sender<Frame>,
) -> std::io::Result<()> {
    let (mut held, mut writing) = (Vec::new(), Writing::default());
    let (mut greeting, mut requests) = (Vec::new(), Vec::new());
    while send_queue
        .exchange(&mut socket, &mut held, &mut writing)
        .await?
    {
        take(&mut held, &mut greeting, |_, request| {
            requests.push(request)
        })?;
        for request in requests.drain(..) {
            let frame = Frame {
                client,
                id: request.id,
                route: request.route,
                body: request.body,
            };
            if frames.send(frame).await.is_err() {
                return Ok(());
            }
        }
        if !greeting.is_empty() {
            send_queue.append(|out| out.append(&mut greeting));
        }
    }
    Ok(())
}

/// Batches of whatever is queued.
struct Outgoing<T> {
    queued: mpsc::Receiver<Frame>,
    map: fn(Batch) -> T,
}

impl<T> Stream for Outgoing<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        let mut frames = Vec::new();
        let map = self.map;
        let Outgoing { queued, .. } = &mut *self;
        queued
            .poll_recv_many(cx, &mut frames, BATCH)
            .map(|count| (count > 0).then(|| map(Batch { frames })))
    }
}
