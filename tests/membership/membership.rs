//! The member tables of nodes that join, leave, die and restart.

use std::sync::Arc;

use futures_util::future::join_all;
use nano::App;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::{
    nodes::{HEARTBEAT, Living, free_address, master, member, serving},
    support::{DEADLINE, MemberApp, eventually},
};

/// The calls of a node's membership callbacks: `+` and `-` with the member's label.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn on(&self, app: MemberApp) -> MemberApp {
        let (joined, left) = (self.clone(), self.clone());
        app.on_member_joined(move |member| joined.note("+", member.label()))
            .on_member_left(move |member| left.note("-", member.label()))
    }

    fn follow(&self, node: &nano::Handle) {
        let (joined, left) = (self.clone(), self.clone());
        node.on_member_joined(move |member| joined.note("+", member.label()));
        node.on_member_left(move |member| left.note("-", member.label()));
    }

    fn note(&self, what: &str, label: &str) {
        self.0.lock().push(format!("{what}{label}"));
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

#[tokio::test]
async fn members_have_each_others_label_services_and_metadata() {
    let log = Log::default();
    let master = Living::start(serving(log.on(master().label("m")), &["Topic"])).await;
    let chat = serving(
        member(master.address())
            .label("c")
            .cluster(|cluster| cluster.metadata("zone", "north")),
        &["Room", "Bot"],
    );
    let chat = Living::start(panicking(chat)).await;
    let gate = Living::start(member(master.address()).label("g")).await;

    gate.sees(&[master.address(), chat.address()]).await;
    chat.sees(&[master.address(), gate.address()]).await;
    master.sees(&[chat.address(), gate.address()]).await;
    let seen = gate.handle().members();
    assert_eq!(seen[0].services(), ["Topic"]);
    assert_eq!(
        (seen[1].label(), seen[1].services()),
        ("c", ["Bot".to_owned(), "Room".to_owned()].as_slice()),
        "sorted"
    );
    assert_eq!(seen[1].metadata()["zone"], "north");
    assert_eq!(&seen[1], chat.handle().member().unwrap());
    assert!(seen[1].incarnation() > 0);

    chat.stop().await;
    assert_eq!(
        master.table(),
        [gate.address()],
        "it unregistered before it stopped"
    );
    gate.sees(&[master.address()]).await;
    eventually("the callbacks", || log.lines() == ["+c", "+g", "-c"]).await;
}

/// Registers its callbacks in `init`.
struct Watcher(Log);

impl nano::Component for Watcher {
    fn handlers(handlers: nano::Handlers<Self>) -> nano::Handlers<Self> {
        handlers.on("Call", |_: &Self, _: &nano::Session, (): ()| {
            Ok::<_, nano::Error>(())
        })
    }

    fn init(self: &Arc<Self>, node: &nano::Handle) -> nano::Result {
        self.0.follow(node);
        Ok(())
    }
}

#[tokio::test]
async fn callbacks_registered_on_the_handle_are_called() {
    let (early, late, at_master) = (Log::default(), Log::default(), Log::default());
    let master = Living::start(master().label("m").component(Watcher(at_master.clone()))).await;
    let node = Living::start(
        member(master.address())
            .label("n")
            .component(Watcher(early.clone())),
    )
    .await;
    late.follow(node.handle());
    let other = Living::start(member(master.address()).label("o")).await;
    node.sees(&[master.address(), other.address()]).await;
    other.stop().await;
    node.sees(&[master.address()]).await;
    eventually("the callbacks registered before the node joined", || {
        early.lines() == ["+m", "+o", "-o"]
    })
    .await;
    eventually("the callbacks registered later", || {
        late.lines() == ["+o", "-o"]
    })
    .await;
    eventually("the callbacks of the master", || {
        at_master.lines() == ["+n", "+o", "-o"]
    })
    .await;
}

fn panicking(app: MemberApp) -> MemberApp {
    app.on_member_joined(|_| panic!("a callback that panics ends alone"))
}

#[tokio::test]
async fn the_unregister_callback_runs_before_the_member_is_removed() {
    let seen: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
    let (handle, in_callback, told) = (
        Arc::<Mutex<Option<nano::Handle>>>::default(),
        Arc::clone(&seen),
        Log::default(),
    );
    let its = handle.clone();
    let app = told.on(master()).on_unregister(move |member| {
        let there = its.lock().as_ref().unwrap().members().contains(member);
        in_callback.lock().push((member.label().to_owned(), there));
    });
    let master = Living::start(app).await;
    *handle.lock() = Some(master.handle().clone());
    let (goes, dies) = (
        Living::start(member(master.address()).label("goes")).await,
        Living::start(member(master.address()).label("dies")).await,
    );
    goes.stop().await;
    dies.kill().await;
    eventually("both are gone", || told.lines().len() == 4).await;
    assert_eq!(
        *seen.lock(),
        [("goes".to_owned(), true), ("dies".to_owned(), true)]
    );
}

#[tokio::test]
async fn dead_members_are_evicted_from_every_table_and_delay_no_other() {
    let master = Living::start(master()).await;
    let lives = Living::start(member(master.address())).await;
    let dead = join_all((0..2).map(|_| Living::start(member(master.address())))).await;
    eventually("all see all", || lives.table().len() == 3).await;

    let began = Instant::now();
    join_all(dead.into_iter().map(Living::kill)).await;
    let new = Living::start(member(master.address())).await;
    assert!(
        began.elapsed() < HEARTBEAT * 4,
        "joining waits for no dead member: {:?}",
        began.elapsed()
    );
    lives.sees(&[master.address(), new.address()]).await;
    master.sees(&[lives.address(), new.address()]).await;
    new.sees(&[master.address(), lives.address()]).await;
    assert!(began.elapsed() < HEARTBEAT * 20, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_restarted_node_replaces_its_former_incarnation() {
    let master = Living::start(master()).await;
    let observer = Living::start(member(master.address())).await;
    let address = free_address();
    let first = Living::start(serving(member(master.address()), &["Old"]).listen(&address)).await;
    observer.sees(&[master.address(), &address]).await;
    let old = observer.handle().members()[1].clone();
    first.kill().await;

    let second = Living::start(serving(member(master.address()), &["New"]).listen(&address)).await;
    let its_own = second.handle().member().unwrap();
    assert!(its_own.incarnation() > old.incarnation());
    eventually("only the newer incarnation is a member", || {
        observer.handle().members()[1..] == [its_own.clone()]
    })
    .await;
    second.sees(&[master.address(), observer.address()]).await;
}

#[tokio::test]
async fn ten_nodes_join_at_once_and_six_leave_at_once() {
    let master = Living::start(master()).await;
    let nodes = join_all((0..10).map(|_| Living::start(member(master.address())))).await;
    eventually("all see all", || {
        nodes.iter().all(|node| node.table().len() == 10)
    })
    .await;
    for node in &nodes {
        let table = node.table();
        assert_eq!(table[0], master.address(), "the master first");
        assert!(nodes.iter().all(|other| other.address() == node.address()
            || table.iter().any(|address| address == other.address())));
    }
    // Six of them leave at once.
    join_all(nodes[..6].iter().map(Living::stop)).await;
    for node in &nodes[6..] {
        eventually("four are left", || {
            node.table().len() == 4
                && nodes[..6]
                    .iter()
                    .all(|gone| !node.table().contains(&gone.address().to_owned()))
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_is_unreachable_until_its_hooks_have_run() {
    struct Slow(Arc<Mutex<Option<bool>>>, Arc<Living>);
    impl nano::Component for Slow {
        fn handlers(handlers: nano::Handlers<Self>) -> nano::Handlers<Self> {
            handlers.on("Call", |_: &Self, _: &nano::Session, (): ()| {
                Ok::<_, nano::Error>(())
            })
        }
        fn init(self: &Arc<Self>, node: &nano::Handle) -> nano::Result {
            std::thread::sleep(HEARTBEAT);
            let address = node.member().unwrap().address().to_owned();
            *self.0.lock() = Some(
                self.1.table().contains(&address) || std::net::TcpStream::connect(&address).is_ok(),
            );
            Ok(())
        }
    }
    let master = Arc::new(Living::start(master()).await);
    let reachable = Arc::<Mutex<Option<bool>>>::default();
    let ready =
        Living::start(member(master.address()).component(Slow(reachable.clone(), master.clone())))
            .await;
    assert_eq!(*reachable.lock(), Some(false), "in init");
    assert_eq!(master.table(), [ready.address()]);
}

#[tokio::test]
async fn a_standalone_node_has_no_members() {
    let alone = App::new().start().await.unwrap();
    assert_eq!(
        (alone.handle().member(), alone.handle().members().len()),
        (None, 0)
    );
    alone.shutdown().await;
}

#[tokio::test]
async fn a_start_that_is_dropped_frees_its_address() {
    let address = free_address();
    let unused = free_address();
    let started = timeout(HEARTBEAT, member(&unused).listen(&address).start()).await;
    assert!(started.is_err(), "there is no master to join");
    let end = Instant::now() + DEADLINE;
    while std::net::TcpListener::bind(&address).is_err() {
        assert!(Instant::now() < end, "the address is still taken");
        tokio::task::yield_now().await;
    }
}
