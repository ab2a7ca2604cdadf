//! Promise 3: nothing on one scheduler ever runs at the same time as anything else on it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use nano::{App, Component, Handle, Handlers, Result, Session};
use parking_lot::Mutex;

use crate::{
    harness::{Client, start},
    support::eventually,
};

/// Counts handlers that run, and those that overlap.
#[derive(Default)]
struct Turnstile {
    occupied: AtomicBool,
    meetings: Mutex<Vec<&'static str>>,
    passed: Mutex<BTreeMap<&'static str, usize>>,
}

impl Turnstile {
    fn pass(&self, who: &'static str) {
        if self.occupied.swap(true, SeqCst) {
            self.meetings.lock().push(who);
        }
        thread::sleep(Duration::from_micros(20));
        *self.passed.lock().entry(who).or_default() += 1;
        self.occupied.store(false, SeqCst);
    }

    fn count(&self, who: &str) -> usize {
        self.passed.lock().get(who).copied().unwrap_or_default()
    }
}

struct Gallery(Arc<Turnstile>);

impl Component for Gallery {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Look", Self::look).on("Stroll", Self::stroll)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        self.0.pass("init");
        let turnstile = self.0.clone();
        node.scheduler()
            .interval(Duration::from_millis(1), move || turnstile.pass("timer"))?;
        Ok(())
    }

    fn after_init(self: &Arc<Self>, _: &Handle) -> Result {
        self.0.pass("after_init");
        Ok(())
    }

    fn before_shutdown(self: &Arc<Self>, _: &Handle) {
        self.0.pass("before_shutdown");
    }

    fn shutdown(self: &Arc<Self>, _: &Handle) {
        self.0.pass("shutdown");
    }
}

impl Gallery {
    fn look(&self, session: &Session, _: ()) -> Result {
        self.0.pass("handler");
        let turnstile = self.0.clone();
        session.on_closed(move |_, _| turnstile.pass("callback of a session"));
        Ok(())
    }

    async fn stroll(self: Arc<Self>, _: Session, _: ()) -> Result {
        for _ in 0..3 {
            self.0.pass("async handler");
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn handlers_timers_callbacks_hooks_and_tasks_never_overlap_on_one_scheduler() {
    let turnstile = Arc::new(Turnstile::default());
    let closed = turnstile.clone();
    let app = App::new()
        .scheduler_threads(4)
        .component(Gallery(turnstile.clone()))
        .on_session_closed(move |_, _| closed.pass("callback of the node"));
    let node = start(app).await;

    let pushers: Vec<_> = (0..2)
        .map(|_| {
            let (handle, turnstile) = (node.handle().clone(), turnstile.clone());
            thread::spawn(move || {
                for _ in 0..200 {
                    let turnstile = turnstile.clone();
                    handle.push_task(move || turnstile.pass("task")).unwrap();
                    thread::yield_now();
                }
            })
        })
        .collect();
    let mut visitors = Vec::new();
    for _ in 0..8 {
        let mut visitor = Client::connect(&node).await;
        for _ in 0..10 {
            visitor.notify("Gallery.Look", "").await;
            visitor.notify("Gallery.Stroll", "").await;
        }
        visitors.push(visitor);
    }
    drop(visitors);
    eventually("everything has passed", || {
        turnstile.count("callback of the node") == 8
            && turnstile.count("callback of a session") == 80
            && turnstile.count("handler") == 80
            && turnstile.count("async handler") == 240
            && turnstile.count("task") == 400
            && turnstile.count("timer") >= 10
    })
    .await;
    pushers
        .into_iter()
        .for_each(|pusher| pusher.join().unwrap());
    node.shutdown().await;
    for hook in ["init", "after_init", "before_shutdown", "shutdown"] {
        assert_eq!(turnstile.count(hook), 1, "{hook}");
    }
    assert_eq!(*turnstile.meetings.lock(), [""; 0]);
}
