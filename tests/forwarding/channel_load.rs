//! A channel whose owner dies while all nodes publish to it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use nano::{
    Admin, Channel, Handle, Position,
    client::{Client, Subscription},
    testing::{TestNode, eventually, within},
};
use tokio::task::{JoinSet, yield_now};

use crate::{
    channels::{Nodes, client},
    cluster::member,
    http::{admin, get},
};

/// The publisher that ends the channel.
const LAST: usize = usize::MAX;

/// The publications that the owner keeps: more than there are.
const KEPT: usize = 1_000;

fn kept(node: &Handle, name: &str) -> Channel {
    node.channel(name)
        .with_history(KEPT, Duration::from_secs(60))
}

/// A channel that a backend owns, and which of them it is.
async fn owned_by_a_backend(nodes: &Nodes) -> (String, usize) {
    // Only a node with members of a channel shows its owner.
    let app = member(&nodes.master).tcp("127.0.0.1:0");
    let app = app.app(|app| app.admin(Admin::new("127.0.0.1:0")));
    let observer = TestNode::start(app).await;
    observer
        .knows(1 + nodes.gates.len() + nodes.backends.len())
        .await;
    let (client, session) = client(&observer).await;
    for number in 0.. {
        let name = format!("guild.{number}");
        let channel = observer.handle().channel(&*name);
        channel.join(&session).await.unwrap();
        let page = get(admin(observer.node()), "/api/v1/channels").await.ok();
        channel.leave(&session).await.unwrap();
        let owner = page["channels"][0]["owner"].as_str().unwrap();
        let owner = nodes
            .backends
            .iter()
            .position(|node| node.address() == owner);
        if let Some(owner) = owner {
            client.close();
            observer.stop().await;
            nodes.gates[0]
                .knows(nodes.gates.len() + nodes.backends.len())
                .await;
            return (name, owner);
        }
    }
    unreachable!()
}

/// What the publishers share.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    /// The largest epoch of a publication, and how many there were in it.
    epoch: AtomicU64,
    published: AtomicU64,
}

/// Publishes numbers until the load is over. Returns where those are in the order that did not fail.
async fn publish(channel: Channel, publisher: usize, load: Arc<Load>) -> Vec<(usize, Position)> {
    let mut published = Vec::new();
    for number in 0.. {
        if load.over.load(Relaxed) {
            break;
        }
        let Ok(position) = channel.publish("on", &(publisher, number)).await else {
            // It may have been published, too. On a node that was killed all fail at once.
            yield_now().await;
            continue;
        };
        if load.epoch.fetch_max(position.epoch, Relaxed) < position.epoch {
            load.published.store(0, Relaxed);
        }
        load.published.fetch_add(1, Relaxed);
        published.push((number, position));
    }
    published
}

/// What a member gets, up to the end.
async fn all_of(on: &mut Subscription) -> Vec<(usize, usize)> {
    let mut received = Vec::new();
    loop {
        let next = within("a publication", on.recv_as()).await;
        match next.unwrap().unwrap() {
            (LAST, _) => return received,
            next => received.push(next),
        }
    }
}

/// Checks that what both got is in one order.
fn agree(some: &[(usize, usize)], others: &[(usize, usize)]) {
    let places: HashMap<_, _> = others.iter().enumerate().map(|(at, it)| (it, at)).collect();
    let common: Vec<_> = some.iter().filter_map(|it| places.get(it)).collect();
    assert!(common.is_sorted(), "two orders");
}

async fn the_owner_dies(members: usize, count: u64) {
    let mut nodes = Nodes::start(3, 7).await;
    let (name, owner) = owned_by_a_backend(&nodes).await;
    let mut clients: Vec<(Subscription, Client)> = Vec::new();
    for at in 0..members {
        let gate = &nodes.gates[at % 3];
        let (client, session) = client(gate).await;
        gate.handle().channel(&*name).join(&session).await.unwrap();
        clients.push((client.subscribe("on"), client));
    }
    let load = Arc::new(Load::default());
    let mut publishers = JoinSet::new();
    for (at, node) in nodes.gates.iter().chain(&nodes.backends).enumerate() {
        let publishing = publish(kept(node.handle(), &name), at, load.clone());
        publishers.spawn(async move { (at, publishing.await) });
    }
    let enough = || load.published.load(Relaxed) >= count;
    eventually("publications", enough).await;
    let before = load.epoch.load(Relaxed);
    nodes.backends[owner].kill();
    eventually("publications in another epoch", || {
        load.epoch.load(Relaxed) > before && enough()
    })
    .await;
    load.over.store(true, Relaxed);
    let published: BTreeMap<_, _> = publishers.join_all().await.into_iter().collect();
    let gate = nodes.gates[0].handle();
    let last = kept(gate, &name).publish("on", &(LAST, 0)).await.unwrap();
    let received = join_all(clients.iter_mut().map(|(on, _)| all_of(on))).await;

    let positions = published.values().flatten().map(|(_, position)| *position);
    let epochs: BTreeSet<_> = positions.map(|position| position.epoch).collect();
    assert!(before < last.epoch && epochs.contains(&before) && epochs.contains(&last.epoch));
    let places: HashMap<_, _> = published
        .iter()
        .flat_map(|(at, all)| {
            all.iter()
                .map(|(number, position)| ((*at, *number), *position))
        })
        .collect();
    for received in &received {
        let mut of_publisher = BTreeMap::<_, Vec<_>>::new();
        for (publisher, number) in received {
            of_publisher.entry(*publisher).or_default().push(*number);
        }
        for (publisher, numbers) in &of_publisher {
            let increasing = numbers.windows(2).all(|two| two[0] < two[1]);
            assert!(increasing, "{publisher}: once, and in order: {numbers:?}");
        }
        let known: Vec<_> = received.iter().filter_map(|it| places.get(it)).collect();
        assert!(known.is_sorted(), "the order that publishers learned");
        for (at, numbers) in published.iter().filter(|(at, _)| **at != 3 + owner) {
            // When the next owner has begun nothing is lost.
            let (number, _) = numbers.last().unwrap();
            assert_eq!(of_publisher[at].last(), Some(number), "of publisher {at}");
        }
    }
    for others in received.windows(2) {
        agree(&others[0], &others[1]);
    }

    // The next owner has the history of its epoch, and none of the one before.
    let (back, session) = client(&nodes.gates[1]).await;
    let mut on = back.subscribe("on");
    let channel = kept(nodes.gates[1].handle(), &name);
    let since = Position { offset: 1, ..last };
    let returned = channel.rejoin(&session, since).await.unwrap();
    assert_eq!((returned.position, returned.recovered), (last, true));
    let missed = all_of(&mut on).await;
    assert_eq!(missed.len() as u64, last.offset - 2);
    let tail = received[1].len() - missed.len();
    assert_eq!(missed, received[1][tail..]);
    assert!(channel.leave(&session).await.unwrap());
    let since = Position {
        epoch: before,
        offset: 1,
    };
    assert!(!channel.rejoin(&session, since).await.unwrap().recovered);
    println!(
        "{} in the epoch before, {} in the next",
        places.len() as u64 - last.offset,
        last.offset
    );
}

#[tokio::test]
async fn members_see_one_order_when_the_owner_dies_under_load() {
    the_owner_dies(12, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn three_hundred_members_see_one_order_when_the_owner_dies_under_load() {
    the_owner_dies(300, 300).await;
}
