//! A client returns while the task of its earlier connection runs.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use nano::{
    Listener,
    packet::Decoder,
    testing::RawClient,
    transport::{Accepted, Acceptor, Stream, Transport},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    harness::{MINUTE, app, greet, session},
    support::{DEADLINE, eventually},
};

/// Stops the task of a connection once: behind its look at the phase of the client.
struct Pause {
    armed: AtomicBool,
    reached: AtomicBool,
    over: Mutex<mpsc::Receiver<()>>,
}

/// A TCP connection whose task can be stopped where it has found nothing to read.
struct Pausing {
    stream: Stream<TcpStream>,
    pause: Arc<Pause>,
}

impl Transport for Pausing {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        let read = self.stream.poll_read(cx, into);
        if read.is_pending() && self.pause.armed.swap(false, Ordering::SeqCst) {
            self.pause.reached.store(true, Ordering::SeqCst);
            self.pause.over.lock().recv_timeout(DEADLINE).unwrap();
        }
        read
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        self.stream.poll_write(cx, from, written)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

struct PausingAcceptor(TcpListener, Arc<Pause>);

impl Acceptor for PausingAcceptor {
    type Transport = Pausing;

    async fn accept(&mut self) -> io::Result<Accepted<Pausing>> {
        let (stream, _) = self.0.accept().await?;
        Ok(Accepted::new(Pausing {
            stream: Stream::new(stream),
            pause: self.1.clone(),
        }))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local_addr().ok()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_return_is_noticed_by_a_connection_whose_task_runs() {
    let (go_on, over) = mpsc::channel();
    let pause = Arc::new(Pause {
        armed: AtomicBool::new(false),
        reached: AtomicBool::new(false),
        over: Mutex::new(over),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let acceptor = PausingAcceptor(listener, pause.clone());
    let (app, _log) = app(MINUTE);
    let app = app.listen(Listener::custom(acceptor)).tcp("127.0.0.1:0");
    // One for the task that is stopped.
    let node = app.io_threads(2).start().await.unwrap();
    let mut first = RawClient::tcp(node.addresses()[0]).await;
    let granted = greet(&mut first, json!({})).await;
    assert_eq!(first.call(1, "Game.Echo", "x").await, "x");

    // The push wakes the task, which is then not waiting to be woken.
    pause.armed.store(true, Ordering::SeqCst);
    session(&node).push_raw("onNumber", "0").unwrap();
    eventually("the task runs", || pause.reached.load(Ordering::SeqCst)).await;
    let returns = tokio::spawn({
        let (address, token) = (node.addresses()[1], granted["token"].clone());
        async move {
            let mut client = RawClient::tcp(address).await;
            let granted = greet(&mut client, json!({ "token": token, "received": 1 })).await;
            (client, granted)
        }
    });
    // That the connection was taken from the client shows nowhere until its task goes on.
    tokio::time::sleep(Duration::from_millis(100)).await;
    go_on.send(()).unwrap();
    let (mut client, granted) = returns.await.unwrap();
    assert_eq!(granted.get("lost"), None, "{granted}");
    assert_eq!(client.push("onNumber").await, "0");
}
