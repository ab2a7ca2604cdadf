//! Promise 8: no globals. Nodes live side by side, stop, and start again in one process; their
//! handles work from any thread.

use std::{
    cell::RefCell,
    sync::{Arc, mpsc},
    thread::{self, ThreadId},
    time::Duration,
};

use bytes::Bytes;
use nano::{
    Accept, App, Component, Error, Group, Handlers, Node, Options, Raw, Session, Timeouts, code,
    message::Message, packet::Kind, testing::TestNode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, oneshot},
    time::interval,
};

use crate::{
    harness::{Client, data, greeting, packet, start},
    support::{eventually, within},
};

/// Says which node it is on.
struct Name(&'static str);

impl Component<Raw> for Name {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Say", |name: &Self, _: &Session<Raw>, _: ()| {
            Ok::<_, Error>(name.0)
        })
    }
}

async fn named(name: &'static str, address: &str) -> Node {
    App::new()
        .component(Name(name))
        .dictionary([("Name.Say", name.len() as u16)])
        .tcp(address)
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_node_that_was_killed_has_closed_its_sockets() {
    for _ in 0..20 {
        let app = App::new().component(Name("one")).tcp("127.0.0.1:0");
        let mut node = TestNode::start(app).await;
        let address = node.client_address();
        node.kill();
        let refused = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn several_nodes_run_in_one_process_and_know_nothing_of_each_other() {
    let nodes = [
        named("one", "127.0.0.1:0").await,
        named("three", "127.0.0.1:0").await,
    ];
    let mut clients = [
        Client::connect(&nodes[0]).await,
        Client::connect(&nodes[1]).await,
    ];
    for (client, name) in clients.iter_mut().zip(["one", "three"]) {
        assert_eq!(client.ask("Name.Say", "").await.unwrap(), name);
        assert_eq!(
            client.shake_hands().await.dictionary.code("Name.Say"),
            Some(name.len() as u16)
        );
    }
    assert_eq!(
        nodes
            .each_ref()
            .map(|node| node.handle().sessions().count()),
        [1, 1]
    );

    nodes[0].shutdown().await;
    assert_eq!(
        clients[0].end().await.as_deref(),
        Some("server is shutting down")
    );
    assert_eq!(clients[1].ask("Name.Say", "").await.unwrap(), "three");
    assert_eq!(
        nodes[1]
            .handle()
            .push_task(|| {})
            .map_err(|full| full.to_string()),
        Ok(())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_again_at_the_address_of_one_that_has_stopped() {
    let first = named("first", "127.0.0.1:0").await;
    let address = first.addresses()[0].to_string();
    let mut client = Client::connect(&first).await;
    client.ask("Name.Say", "").await.unwrap();
    first.shutdown().await;
    for number in 0..60 {
        let node = named("next", &address).await;
        // Without a client there is least to do between the end of one and the start of the next.
        if number % 10 == 0 {
            let mut client = Client::connect(&node).await;
            assert_eq!(client.ask("Name.Say", "").await.unwrap(), "next");
        }
        node.shutdown().await;
        node.shutdown().await;
        assert_eq!(
            node.handle().push_task(|| {}).unwrap_err().to_string(),
            "the scheduler is shut down"
        );
    }
}

#[tokio::test]
async fn a_handle_works_from_a_thread_outside_of_any_runtime() {
    let node = start(App::new().component(Name("node"))).await;
    let mut client = Client::connect(&node).await;
    let session = client.session(&node).await;
    let (handle, group) = (node.handle().clone(), Arc::new(Group::<Raw>::new("room")));
    let (done, task) = oneshot::channel();
    thread::spawn(move || {
        assert!(tokio::runtime::Handle::try_current().is_err());
        session.push_raw("onPush", "pushed").unwrap();
        group.add(&session).unwrap();
        group.broadcast("onBroadcast", "broadcast").unwrap();
        session.rpc("Name.Say", "").unwrap();
        handle.push_task(|| done.send(()).unwrap()).unwrap();
        handle.scheduler().offload(async { 1 }, |_| {});
        handle
            .new_scheduler("another")
            .delay(Duration::ZERO, || {})
            .unwrap();
        handle.shutdown();
        handle.shutdown();
        assert!(handle.is_shutting_down());
    })
    .join()
    .unwrap();
    assert_eq!(client.push("onPush").await, Bytes::from("pushed"));
    assert_eq!(client.push("onBroadcast").await, Bytes::from("broadcast"));
    within("the task", task).await.unwrap();
    assert_eq!(
        client.end().await.as_deref(),
        Some("server is shutting down")
    );
    within("the end of the node", node.stopped()).await;
}

#[tokio::test]
async fn a_node_stops_by_its_handle_while_it_runs() {
    let node = start(App::new().component(Name("node"))).await;
    let handle = node.handle().clone();
    let running = tokio::spawn(async move { node.run().await });
    let session = || handle.sessions().list().pop();
    assert!(session().is_none());
    handle.shutdown();
    within("the end of the run", running)
        .await
        .unwrap()
        .unwrap();
    eventually("it takes no tasks", || {
        handle.push_task(|| {}).is_err_and(|full| full.is_closed())
    })
    .await;
    assert_eq!(
        Error::from(handle.push_task(|| {}).unwrap_err()).code(),
        code::UNAVAILABLE
    );
}

thread_local! {
    /// Dropped when its thread ends.
    static ALIVE: RefCell<Option<Arc<()>>> = const { RefCell::new(None) };
}

/// A node that says which thread does its network's work, and something that thread alone keeps.
async fn watched(threads: usize) -> (Node, mpsc::Receiver<(ThreadId, Option<String>)>, Arc<()>) {
    let (say, said) = mpsc::channel();
    let kept = Arc::new(());
    let keep = kept.clone();
    let app = App::new()
        .component(Name("node"))
        .io_threads(threads)
        .on_handshake(move |_| {
            ALIVE.set(Some(keep.clone()));
            let thread = thread::current();
            say.send((thread.id(), thread.name().map(str::to_owned)))
                .unwrap();
            Ok(Accept::new())
        });
    (start(app).await, said, kept)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_has_network_threads_of_its_own_and_they_end_with_it() {
    for threads in [1, 3] {
        let (node, said, kept) = watched(threads).await;
        assert_eq!(
            Client::connect(&node)
                .await
                .ask("Name.Say", "")
                .await
                .unwrap(),
            "node"
        );
        assert_eq!(said.recv().unwrap().1.as_deref(), Some("nano-io"));
        node.shutdown().await;
        eventually("its threads end", || Arc::strong_count(&kept) == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_network_threads_a_node_uses_those_it_is_started_on() {
    let (node, said, _kept) = watched(0).await;
    assert_eq!(
        Client::connect(&node)
            .await
            .ask("Name.Say", "")
            .await
            .unwrap(),
        "node"
    );
    assert_ne!(said.recv().unwrap().1.as_deref(), Some("nano-io"));
    node.shutdown().await;
}

#[tokio::test]
async fn on_a_runtime_of_one_thread_a_node_stays_on_it() {
    let (node, said, _kept) = watched(3).await;
    assert_eq!(
        Client::connect(&node)
            .await
            .ask("Name.Say", "")
            .await
            .unwrap(),
        "node"
    );
    assert_eq!(said.recv().unwrap().0, thread::current().id());
    node.shutdown().await;
}

#[test]
fn a_runtime_that_is_dropped_takes_its_node_along() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (node, kept) = runtime.block_on(async {
        let (node, said, kept) = watched(1).await;
        assert_eq!(
            Client::connect(&node)
                .await
                .ask("Name.Say", "")
                .await
                .unwrap(),
            "node"
        );
        assert_eq!(said.recv().unwrap().1.as_deref(), Some("nano-io"));
        (node, kept)
    });
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        within("the node says that it is over", node.stopped()).await;
        eventually("its thread ends", || Arc::strong_count(&kept) == 1).await;
    });
}

/// Runs something, drops the runtime it ran on, and waits until that is gone.
fn drop_runtime_of<F: Future<Output = Client>>(run: impl FnOnce() -> F + Send + 'static) {
    let (tell, gone) = mpsc::channel();
    thread::spawn(move || {
        // One task, then a look at what this waits for.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .event_interval(1)
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(run());
        drop(runtime);
        drop(client);
        tell.send(()).unwrap();
    });
    gone.recv_timeout(Duration::from_secs(20))
        .expect("nothing hangs");
}

#[test]
fn a_runtime_that_is_dropped_with_clients_on_it_is_gone_at_once() {
    drop_runtime_of(|| async {
        let node = start(App::new().component(Name("node")).scheduler_threads(None)).await;
        let mut client = Client::connect(&node).await;
        assert_eq!(client.ask("Name.Say", "").await.unwrap(), "node");
        client
    });
}

/// Tells when it is asked.
struct Teller(Arc<Notify>);

impl Component<Raw> for Teller {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Tell", |teller: &Self, _: &Session<Raw>, _: ()| {
            teller.0.notify_one();
            Ok::<_, Error>(())
        })
    }
}

#[test]
fn a_runtime_that_is_dropped_while_messages_wait_for_another_scheduler_is_gone_at_once() {
    drop_runtime_of(|| async {
        let told = Arc::new(Notify::new());
        let room = Options::new().name("Room").scheduler("room");
        let app = App::new()
            .component(Teller(told.clone()))
            .component_with(Teller(told.clone()), room)
            .scheduler_threads(None);
        let node = start(app).await;
        let mut client = Client::connect(&node).await;
        client
            .session(&node)
            .await
            .pin("room", &node.handle().new_scheduler("room"));
        let message = |route| data(&Message::notify(route, ""));
        client
            .send(
                &[message("Teller.Tell"), message("Room.Tell")]
                    .concat()
                    .repeat(3),
            )
            .await;
        told.notified().await;
        client
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_still_speaks_when_its_node_stops_gets_what_was_sent_last() {
    let node = start(App::new().component(Name("node")).io_threads(1)).await;
    let mut stream = TcpStream::connect(node.addresses()[0]).await.unwrap();
    stream.write_all(&greeting()).await.unwrap();
    eventually("the session", || node.handle().sessions().count() == 1).await;
    node.shutdown().await;
    // A socket that is closed by now answers with a reset, which is an error here.
    let mut pause = interval(Duration::from_millis(2));
    for _ in 0..100 {
        stream
            .write_all(&packet(Kind::Heartbeat, b""))
            .await
            .unwrap();
        pause.tick().await;
    }
    let mut received = Vec::new();
    within("the end", stream.read_to_end(&mut received))
        .await
        .unwrap();
    // The kick is the last packet, and all of it has come.
    let received = String::from_utf8_lossy(&received);
    let kick = received.rsplit_once(r#"{"reason":"server is shutting down""#);
    assert!(
        kick.is_some_and(|(_, rest)| rest.ends_with('}')),
        "{received:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stops_in_time_even_if_its_network_thread_is_blocked() {
    let (entered, enters) = mpsc::channel();
    let (free, blocked) = mpsc::channel::<()>();
    let blocked = parking_lot::Mutex::new(blocked);
    let app = App::new()
        .io_threads(1)
        .timeouts(Timeouts::new().shutdown(Duration::from_millis(100)))
        .on_handshake(move |_| {
            entered.send(()).unwrap();
            // Ends when the test does.
            let _ = blocked.lock().recv();
            Ok(Accept::new())
        });
    let node = start(app).await;
    let mut client = Client::dial(node.addresses()[0]).await;
    client.send(&greeting()).await;
    eventually("the hook blocks", || enters.try_recv().is_ok()).await;
    within("the end of the node", node.shutdown()).await;
    drop(free);
}
