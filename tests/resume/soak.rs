//! Random losses under numbered traffic of many clients: nothing is lost, repeated or reordered.
//!
//! Each client is behind a proxy of its own, which loses its connections in six ways and takes the
//! next one to either of two gates. What all have sent and seen is judged at the end.

mod nodes;
mod oracle;
mod player;
mod script;

use std::{sync::Arc, time::Duration};

use nodes::{Nodes, Process, SEND_QUEUE};
use oracle::Record;
use script::{Loser, Script, Task};
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    harness::MINUTE,
    proxy::{Counts, Cut, Loss, Proxy},
    support::{eventually, sampled},
};

/// How many sockets a gate has to the other nodes, or from them.
const LINKS: usize = 8;

/// How long a client stays away whose queue has to overflow meanwhile.
const FLOODED: Duration = Duration::from_secs(8);

/// How often the memory of the gates is measured.
const LOOK: Duration = Duration::from_millis(200);

/// How many clients of each kind, and for how long.
struct Scale {
    tcp: u32,
    websocket: u32,
    script: u32,
    /// Of each kind there is one whose queue overflows, and one that stays away for too long.
    losers: bool,
    seconds: u64,
    /// After how many bytes a connection is lost, at most.
    most: usize,
}

fn url(proxy: &Proxy, websocket: bool) -> String {
    match websocket {
        true => format!("ws://{}/nano", proxy.address),
        false => format!("tcp://{}", proxy.address),
    }
}

/// Two clients that lose their sessions: the queue of one overflows, the other stays away for too long.
/// Both lose the first connection behind the first message.
async fn lose(nodes: &Nodes, websocket: bool, proxies: &mut Vec<Proxy>) -> [Loser; 2] {
    let mut loser = async |floods| {
        let mut begun: Option<Instant> = None;
        let plan = move || match begun {
            None => {
                begun = Some(Instant::now());
                Some(Cut::after_message(Loss::Silence))
            }
            Some(begun) if floods && begun.elapsed() > FLOODED => None,
            Some(_) => Some(Cut::after(0, Loss::Reset)),
        };
        let proxy = Proxy::start(nodes.addresses(websocket), 0, plan).await;
        let url = url(&proxy, websocket);
        proxies.push(proxy);
        Loser { url, floods }
    };
    [loser(false).await, loser(true).await]
}

/// The most that the gates have taken beyond what they took at first, in the first half of the time and
/// in the second.
async fn watch(nodes: &Nodes, before: [u64; 2], time: Duration) -> [[u64; 2]; 2] {
    let begun = Instant::now();
    let mut most = [[0; 2]; 2];
    while begun.elapsed() < time {
        let half = &mut most[usize::from(begun.elapsed() > time / 2)];
        for (at, gate) in nodes.gates.iter().enumerate() {
            half[at] = half[at].max(gate.memory().saturating_sub(before[at]));
        }
        sleep(LOOK).await;
    }
    most
}

/// Waits until all clients of this crate have come as far.
async fn reach(stages: &Barrier) {
    let reached = timeout(MINUTE, stages.wait()).await;
    reached.expect("a client is stuck");
}

async fn soak(scale: Scale) -> Counts {
    let nodes = Nodes::start().await;
    let files = nodes.gates.each_ref().map(|gate| gate.files());
    let time = Duration::from_secs(scale.seconds);
    let own = scale.tcp + scale.websocket;
    let clients = own + scale.script;
    let stages = Arc::new(Barrier::new(own as usize + 1));
    let (mut proxies, mut players) = (Vec::new(), JoinSet::new());
    let mut task = Task {
        seconds: scale.seconds,
        players: Vec::new(),
        losers: Vec::new(),
    };
    for name in 0..clients {
        let websocket = name >= scale.tcp;
        let proxy = Proxy::random(nodes.addresses(websocket), name.into(), scale.most).await;
        let url = url(&proxy, websocket);
        proxies.push(proxy);
        if name < own {
            players.spawn(player::play(name, url, time, stages.clone()));
        } else {
            task.players.push(script::Player { name, url });
        }
    }
    let (mut losers, mut others) = (Vec::new(), Vec::new());
    if scale.losers {
        losers.extend(lose(&nodes, false, &mut others).await);
        losers.extend(lose(&nodes, true, &mut others).await);
        task.losers.extend(lose(&nodes, true, &mut others).await);
    }
    let mut script = match scale.script {
        0 => None,
        _ => Some(Script::start(&task).await),
    };
    reach(&stages).await;

    // All are connected.
    let before = nodes.gates.each_ref().map(Process::memory);
    let mut lost = JoinSet::new();
    for (name, loser) in (0..).zip(losers) {
        lost.spawn(player::lose(name, loser));
    }
    if let Some(script) = &mut script {
        script.play().await;
    }
    reach(&stages).await;
    let memory = watch(&nodes, before, time).await;
    // What is answered from now on came over a connection that stays.
    proxies.iter().for_each(Proxy::heal);
    if let Some(script) = &mut script {
        script.played().await;
    }
    // All have played.
    reach(&stages).await;
    reach(&stages).await;
    let mut records = timeout(MINUTE, players.join_all()).await.unwrap();
    let mut lost = timeout(MINUTE, lost.join_all()).await.unwrap();
    if let Some(script) = script {
        let report = script.finish().await;
        records.extend(report.records);
        lost.extend(report.lost);
    }
    records.sort_by_key(|record| record.name);
    lost.sort();

    let mut counts = Counts::default();
    for proxy in &proxies {
        counts.add(&proxy.counts());
    }
    report(&records, &counts, &lost, &nodes).await;
    let kib = |bytes: u64| bytes / 1024;
    println!(
        "memory of the gates: {:?} KiB, and at most {:?} more in each half of the time",
        before.map(kib),
        memory.map(|half| half.map(kib)),
    );
    assert_eq!(oracle::faults(&records), [""; 0]);
    assert_eq!(records.len(), clients as usize);
    assert!(counts.returns[0] > 0 && counts.returns[1] > 0);
    if scale.losers {
        let kinds = if scale.script > 0 { 3 } else { 2 };
        let expected = [vec!["expired"; kinds], vec!["overflow"; kinds]].concat();
        assert_eq!(lost, expected);
    }
    // What all send queues may hold together; and what they hold does not grow with the returns.
    let queues = u64::from(clients + 6) * SEND_QUEUE;
    for at in 0..2 {
        let [first, second] = memory.map(|half| half[at]);
        assert!(first.max(second) <= queues, "gate {at}: {memory:?}");
        assert!(second <= first + before[at] / 20, "gate {at}: {memory:?}");
    }
    nothing_is_left(&nodes, files).await;
    nodes.stop().await;
    counts
}

async fn report(records: &[Record], counts: &Counts, lost: &[String], nodes: &Nodes) {
    let sum = |count: fn(&Record) -> u32| -> usize {
        let each = records.iter().map(|record| count(record) as usize);
        each.sum()
    };
    println!("cuts: {}, {:?}", counts.lost(), counts.cuts);
    println!(
        "returns: {} at the gate of the session, {} at the other; {} seen by clients, {} by gates",
        counts.returns[0],
        counts.returns[1],
        sum(|it| it.resumed),
        nodes.metric("nano_sessions_resumed_total").await,
    );
    let requests = sum(|it| it.sent.iter().map(|sent| sent / 2).sum());
    println!(
        "messages: {requests} requests, {} notifies, {} pushes, {} broadcasts that arrived {} times",
        sum(|it| it.sent.iter().sum()) - requests,
        sum(Record::pushes),
        sum(|it| it.broadcasts),
        sum(Record::heard),
    );
    let (all_up, all_down) = (sum(Record::messages_up), sum(Record::messages_down));
    println!(
        "sent again: {} of {all_up} messages of clients, {} of {all_down} of gates",
        counts.messages[0].saturating_sub(all_up),
        counts.messages[1].saturating_sub(all_down),
    );
    println!(
        "returns that failed: {} in handshakes that were cut, {} without an answer; {} refused by gates",
        counts.cuts.get("in the handshake").unwrap_or(&0),
        counts.unanswered,
        nodes.metric("nano_sessions_lost_total").await,
    );
    println!("sessions lost on purpose: {lost:?}");
}

/// The clients have closed their sessions.
async fn nothing_is_left(nodes: &Nodes, files: [usize; 2]) {
    for node in nodes.all() {
        for metric in [
            "nano_sessions",
            "nano_connections",
            "nano_sessions_detached",
            "nano_group_members",
            "nano_panics_total",
        ] {
            node.has(metric, 0.0).await;
        }
    }
    // Links between the nodes may have been opened, and stay.
    for (gate, before) in nodes.gates.iter().zip(files) {
        eventually("sockets to be closed", || gate.files() <= before + LINKS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_repeated_or_reordered_over_connections_that_are_lost() {
    soak(Scale {
        tcp: 4,
        websocket: 4,
        script: 0,
        losers: false,
        seconds: 4,
        most: 6_000,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn a_hundred_clients_of_both_kinds_lose_nothing_for_minutes() {
    let can_run = Script::can_run();
    if !can_run {
        assert!(std::env::var_os("CI").is_none(), "Node is needed");
        println!("without nano.js: run `npm --prefix tests/browser ci`, with Node");
    }
    let counts = soak(Scale {
        tcp: 25,
        websocket: 25,
        script: if can_run { 50 } else { 0 },
        losers: true,
        seconds: sampled(300).max(30),
        most: 60_000,
    })
    .await;
    assert_eq!(counts.cuts.len(), 6, "each way");
}
