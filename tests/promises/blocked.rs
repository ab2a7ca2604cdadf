//! A handler that blocks its scheduler for long is logged while it blocks.

use std::sync::{Arc, mpsc};

use nano::{App, Component, Handlers, Result, Session};
use parking_lot::Mutex;

use crate::{
    harness::{Client, start},
    log::Log,
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

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn blocked_handler_is_logged_once_with_its_route_while_it_blocks() {
    let log = Log::captured();
    let lines = |route| log.count(&["handler still running", route]);
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
        eventually("the handler is logged", || lines(route) > 0).await;
    }
    for (route, _node, mut client, request, release) in blocked {
        drop(release);
        assert_eq!(client.answer(request).await.unwrap(), "true");
        client.ask("Deadlock.Echo", r#""free""#).await.unwrap();
        assert_eq!(lines(route), 1, "{route}");
    }
}
