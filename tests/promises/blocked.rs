//! A handler that blocks its scheduler for long is logged while it blocks.

use std::sync::{Arc, mpsc};

use nano::{
    App, Component, Handlers, Result, Session,
    filter::{self, AsyncFilter, Context, Flow},
};
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

/// A filter that waits, so that its handler runs in a later turn.
struct Waits;

impl AsyncFilter for Waits {
    async fn before(&self, _: &mut Context<'_>) -> Result<Flow> {
        tokio::task::yield_now().await;
        Ok(Flow::Continue)
    }
}

type Filters = fn(App) -> App;

fn unfiltered(app: App) -> App {
    app
}

fn filtered(app: App) -> App {
    app.filter(filter::before(|_| Ok(Flow::Continue)))
}

fn after_a_wait(app: App) -> App {
    app.filter(Waits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn blocked_handler_is_logged_once_with_its_route_and_session_while_it_blocks() {
    let log = Log::captured();
    let lines = |route, session: i64| {
        let session = format!(" session={session} ");
        log.count(&["handler still running", route, &session])
    };
    let mut blocked = Vec::new();
    let cases: [(_, _, Filters); 4] = [
        (Some(1), "Deadlock.Call", unfiltered),
        (None, "Deadlock.Poll", unfiltered),
        (Some(1), "Deadlock.Call", filtered),
        (Some(1), "Deadlock.Call", after_a_wait),
    ];
    for (threads, route, filters) in cases {
        let (release, receiver) = mpsc::channel();
        let component = Deadlock(Mutex::new(receiver));
        let app = App::new().component(component).scheduler_threads(threads);
        let node = start(filters(app)).await;
        let mut client = Client::connect(&node).await;
        let session = client.session(&node).await.id();
        let request = client.request(route, "").await;
        blocked.push((route, session, node, client, request, release));
    }
    for (route, session, ..) in &blocked {
        eventually("the handler is logged", || lines(route, *session) > 0).await;
    }
    for (route, session, _node, mut client, request, release) in blocked {
        drop(release);
        assert_eq!(client.answer(request).await.unwrap(), "true");
        client.ask("Deadlock.Echo", r#""free""#).await.unwrap();
        assert_eq!(lines(route, session), 1, "{route}");
        // And once more when its end tells how long it was.
        let (session, route) = (
            format!(" session={session} "),
            format!(" route=\"{route}\" "),
        );
        let ended = || log.count(&["long turn", &session, &route, " took_ms="]) > 0;
        eventually("the end is logged", ended).await;
    }
}
