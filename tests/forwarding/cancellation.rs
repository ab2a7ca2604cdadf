//! Calls whose caller no longer waits: their handlers learn of it, on whichever node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nano::{
    App, Component, Error, Handle, Handlers, Options, Result, Session, code,
    testing::{TestCluster, TestNode},
};
use parking_lot::Mutex;

use crate::support::{eventually, within};

/// What became of the handlers of one service.
#[derive(Default)]
struct Counts {
    begun: AtomicUsize,
    /// Handlers that learned that nothing waits.
    cancelled: AtomicUsize,
    /// Futures that were dropped before their end.
    dropped: AtomicUsize,
    /// The errors of answers that came too late.
    late: Mutex<Vec<String>>,
}

struct Unfinished<'a>(&'a Counts, bool);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Waits until it is cancelled.
struct Worker(Arc<Counts>);

impl Component for Worker {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Wait", Self::wait)
            .on("Stop", Self::stop)
            .cancellable()
            .on("Pass", Self::pass)
            .on("PassOn", Self::pass)
            .cancellable()
            .on("Where", |_: &Self, session: &Session, (): ()| {
                let node = session.node()?;
                let member = node.member().ok_or_else(|| Error::not_found("no member"))?;
                Ok::<_, Error>(member.address().to_owned())
            })
    }
}

impl Worker {
    async fn wait(self: Arc<Self>, session: Session, _: ()) -> Result {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        assert!(!session.is_cancelled());
        let mut unfinished = Unfinished(&self.0, false);
        session.cancelled().await;
        assert!(session.is_cancelled());
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = session.respond("too late") {
            self.0.late.lock().push(error.code().to_string());
        }
        unfinished.1 = true;
        Ok(())
    }

    async fn stop(self: Arc<Self>, _: Session, _: ()) -> Result<bool> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        let _unfinished = Unfinished(&self.0, false);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok(true)
    }

    /// Makes a call on behalf of its session: the route, and the address if there is one.
    async fn pass(
        self: Arc<Self>,
        session: Session,
        (route, to): (String, Option<String>),
    ) -> Result<serde_json::Value> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        let call = session.call(&route);
        match to {
            Some(to) => call.to(to).json(&()).await,
            None => call.json(&()).await,
        }
    }
}

/// A gate, which is the master, and members with the service `Near`, and `Far`.
struct Nodes {
    cluster: TestCluster,
    near: TestNode,
    far: TestNode,
    /// Those of the gate, near and far.
    counts: [Arc<Counts>; 3],
}

impl Nodes {
    async fn start() -> Self {
        let counts: [Arc<Counts>; 3] = Default::default();
        let app = |name: &str, at: usize| {
            let worker = Worker(counts[at].clone());
            App::new().component_with(worker, Options::new().name(name))
        };
        let gate = app("Gate", 0).tcp("127.0.0.1:0");
        let cluster = TestCluster::with_master(gate, TestCluster::master_options()).await;
        let (near, far) = (
            cluster.add(app("Near", 1)).await,
            cluster.add(app("Far", 2)).await,
        );
        cluster.converged(&[&near, &far]).await;
        Self {
            cluster,
            near,
            far,
            counts,
        }
    }

    fn gate(&self) -> &TestNode {
        self.cluster.master()
    }

    fn node(&self) -> &Handle {
        self.gate().handle()
    }

    async fn count(&self, what: &str, at: usize, of: fn(&Counts) -> &AtomicUsize, count: usize) {
        eventually(what, || {
            of(&self.counts[at]).load(Ordering::SeqCst) == count
        })
        .await;
    }

    async fn begun(&self, at: usize, count: usize) {
        self.count("the handler begins", at, |of| &of.begun, count)
            .await;
    }

    async fn cancelled(&self, at: usize, count: usize) {
        self.count("the handler is cancelled", at, |of| &of.cancelled, count)
            .await;
    }

    async fn dropped(&self, at: usize, count: usize) {
        self.count("the future is dropped", at, |of| &of.dropped, count)
            .await;
    }
}

#[tokio::test]
async fn the_handler_of_a_call_that_was_given_up_is_cancelled() {
    let nodes = Nodes::start().await;
    for (at, service) in ["Gate", "Near", "Far"].into_iter().enumerate() {
        let call = nodes.node().call(&format!("{service}.Wait"));
        let call = call.json::<(), _>(&());
        nodes.begun(at, 1).await;
        drop(call);
        nodes.cancelled(at, 1).await;
        eventually("the late answer is an error", || {
            *nodes.counts[at].late.lock() == [code::CONFLICT]
        })
        .await;

        let call = nodes.node().call(&format!("{service}.Stop"));
        let call = call.json::<bool, _>(&());
        nodes.begun(at, 2).await;
        drop(call);
        nodes.dropped(at, 1).await;
    }
    // Nothing waits for a call any more.
    within("the members stop", async {
        tokio::join!(nodes.near.stop(), nodes.far.stop());
        nodes.gate().stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_handler_of_a_call_that_timed_out_is_cancelled() {
    let nodes = Nodes::start().await;
    for (at, service) in ["Gate", "Near"].into_iter().enumerate() {
        for (method, count) in [("Wait", 1), ("Stop", 2)] {
            let call = nodes.node().call(&format!("{service}.{method}"));
            let call = call.timeout(Duration::from_millis(100));
            let error = call.json::<(), _>(&()).await.unwrap_err();
            assert_eq!(error.code(), code::TIMEOUT);
            nodes.begun(at, count).await;
        }
        nodes.cancelled(at, 1).await;
        nodes.dropped(at, 1).await;
    }
}

#[tokio::test]
async fn a_handler_for_a_client_is_cancelled_when_the_client_closes() {
    let nodes = Nodes::start().await;
    let client = nodes.gate().client().await;
    for (at, service) in ["Gate", "Near"].into_iter().enumerate() {
        for method in ["Wait", "Stop"] {
            let route = format!("{service}.{method}");
            client.notify(&route, &()).await.unwrap();
        }
        nodes.begun(at, 2).await;
    }
    client.close();
    for at in 0..2 {
        nodes.cancelled(at, 1).await;
        nodes.dropped(at, 1).await;
    }
}

#[tokio::test]
async fn a_call_for_a_session_is_cancelled_when_its_client_closes() {
    let nodes = Nodes::start().await;
    let client = nodes.gate().client().await;
    // From the gate, and from a member by way of the gate.
    for (at, caller) in ["Gate", "Near"].into_iter().enumerate() {
        let route = format!("{caller}.Pass");
        client
            .notify(&route, &("Far.Wait", None::<()>))
            .await
            .unwrap();
        nodes.begun(2, at + 1).await;
    }
    client.close();
    nodes.cancelled(2, 2).await;
}

#[tokio::test]
async fn a_cancellation_passes_on_from_node_to_node() {
    let nodes = Nodes::start().await;
    let client = nodes.gate().client().await;
    // The member's handler is dropped, and with it its call, which went by way of the gate.
    let route = "Near.PassOn";
    client
        .notify(route, &("Far.Stop", None::<()>))
        .await
        .unwrap();
    nodes.begun(2, 1).await;
    client.close();
    nodes.dropped(2, 1).await;

    // Without a client: a node's own calls, one in the handler of the other.
    let call = nodes.node().call("Near.PassOn");
    let call = call.json::<bool, _>(&("Far.Stop", None::<()>));
    nodes.begun(2, 2).await;
    drop(call);
    nodes.dropped(2, 2).await;
}

#[tokio::test]
async fn the_handlers_of_a_node_that_died_are_cancelled() {
    let mut nodes = Nodes::start().await;
    let near = nodes.near.handle();
    // The first connection of each stream may take a second attempt.
    within("both streams are up", async {
        let mut answered = 0;
        while answered < 4 {
            let reply = near.call("Far.Where").json::<String, _>(&()).await;
            answered = reply.map_or(0, |_| answered + 1);
        }
    })
    .await;
    let _call = near.call("Far.Stop").json::<bool, _>(&());
    nodes.begun(2, 1).await;
    nodes.near.kill();
    nodes.dropped(2, 1).await;
}

#[tokio::test]
async fn a_call_for_a_session_goes_to_the_node_it_names() {
    let nodes = Nodes::start().await;
    let second = App::new().component_with(Worker(Arc::default()), Options::new().name("Near"));
    let second = nodes.cluster.add(second).await;
    nodes
        .cluster
        .converged(&[&nodes.near, &nodes.far, &second])
        .await;
    let client = nodes.gate().client().await;
    let addresses = [nodes.near.address(), second.address()];
    // From the gate, from a member by way of the gate, and from a member to itself.
    for caller in ["Gate", "Far", "Near"] {
        for address in &addresses {
            let route = format!("{caller}.Pass");
            let found: String = client
                .request(&route, &("Near.Where", Some(address)))
                .await
                .unwrap();
            assert_eq!(found, *address, "{caller}");
        }
        for (route, to) in [
            ("Near.Where", nodes.far.address()),
            ("Near.None", second.address()),
            ("Near.Where", "127.0.0.1:1".to_owned()),
        ] {
            let route_of_caller = format!("{caller}.Pass");
            let message = (route, Some(&to));
            let call = client.request::<String, _>(&route_of_caller, &message);
            let error = call.await.unwrap_err();
            assert_eq!(error.code(), code::NOT_FOUND, "{caller} {to}");
        }
    }
}
