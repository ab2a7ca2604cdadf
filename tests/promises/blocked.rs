//! A handler that blocks its scheduler for long is logged while it blocks.

use std::{
    io,
    sync::{Arc, mpsc},
};

use nano::{App, Component, Handlers, Result, Session};
use parking_lot::Mutex;
use tracing::Level;

use crate::{
    harness::{Client, start},
    support::eventually,
};

/// Its handlers block until the sender is dropped.
struct Deadlock(Mutex<mpsc::Receiver<()>>);

impl Component for Deadlock {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Call", Self::call)
            .on("Poll", Self::poll)
            .on("Echo", Self::echo)
    }
}

impl Deadlock {
    fn call(&self, _: &Session, _: ()) -> Result<bool> {
        Ok(self.0.lock().recv().is_err())
    }

    async fn poll(self: Arc<Self>, _: Session, _: ()) -> Result<bool> {
        tokio::task::yield_now().await;
        Ok(self.0.lock().recv().is_err())
    }

    fn echo(&self, _: &Session, text: String) -> Result<String> {
        Ok(text)
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The number of lines about this route.
    fn count(&self, route: &str) -> usize {
        let log = self.0.lock();
        String::from_utf8_lossy(&log)
            .lines()
            .filter(|line| line.contains("handler still running") && line.contains(route))
            .count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn blocked_handler_is_logged_once_with_its_route_while_it_blocks() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let mut blocked = Vec::new();
    for (threads, route) in [(Some(1), "Deadlock.Call"), (None, "Deadlock.Poll")] {
        let (release, receiver) = mpsc::channel();
        let component = Deadlock(Mutex::new(receiver));
        let app = App::new().component(component).scheduler_threads(threads);
        let node = start(app).await;
        let mut client = Client::connect(&node).await;
        let request = client.request(route, "").await;
        blocked.push((route, node, client, request, release));
    }
    for (route, ..) in &blocked {
        eventually("the handler is logged", || log.count(route) > 0).await;
    }
    for (route, _node, mut client, request, release) in blocked {
        drop(release);
        assert_eq!(client.answer(request).await.unwrap(), "true");
        client.ask("Deadlock.Echo", r#""free""#).await.unwrap();
        assert_eq!(log.count(route), 1, "{route}");
    }
}
