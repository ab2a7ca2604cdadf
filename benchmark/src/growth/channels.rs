//! Channels that span nodes, each with a few of the same sessions.

use futures_util::{StreamExt, TryStreamExt, stream};
use nano::{App, Cluster, Limits, Node, Result};
use tokio::time::Instant;

use super::{
    curve::Point,
    readers::{Taken, with_readers},
    usage::{Usage, latencies, micros, until},
};

/// Sessions of each gate.
const SESSIONS: usize = 500;
/// Of a channel, half of them on each gate.
const MEMBERS: usize = 10;
const PUBLICATIONS: usize = 10_000;
const AT_ONCE: usize = 32;

pub(super) async fn measure(size: usize) -> Result<Point> {
    let limits = Limits::new()
        .max_channels(2 * size.max(1_000))
        .max_channels_per_session(size.max(1_000));
    let cluster = Cluster::master().listen("127.0.0.1:0");
    let master = App::new()
        .limits(limits.clone())
        .cluster(cluster)
        .start()
        .await?;
    let address = master
        .handle()
        .member()
        .map(|member| member.address().to_owned());
    let address = address.unwrap_or_default();
    let (one, taken_by_one) = gate(&address, &limits).await?;
    let (other, taken_by_other) = gate(&address, &limits).await?;
    let nodes = [&master, &one, &other];
    until("members", || {
        nodes.iter().all(|node| node.handle().members().len() == 2)
    })
    .await?;
    let gates = [&one, &other];
    let count = |node: &Node| node.handle().sessions().count();
    until("sessions", || {
        gates.iter().all(|gate| count(gate) == SESSIONS)
    })
    .await?;
    let sessions = gates.map(|gate| gate.handle().sessions().list());

    let empty = Usage::now();
    let joins = (0..size * MEMBERS).map(|at| {
        let (channel, member) = (at / MEMBERS, at % MEMBERS);
        let gate = member % 2;
        let session = &sessions[gate][(channel * MEMBERS + member) / 2 % SESSIONS];
        let channel = gates[gate].handle().channel(format!("guild-{channel}"));
        async move { channel.join(session).await.map(drop) }
    });
    stream::iter(joins)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let joined = Usage::now();

    let taken = || taken_by_one.count() + taken_by_other.count();
    let first = taken();
    let publications = (0..PUBLICATIONS).map(|at| {
        let channel = gates[at % 2]
            .handle()
            .channel(format!("guild-{}", at % size));
        async move {
            let begun = Instant::now();
            channel.publish_raw("onSay", vec![b'x'; 64]).await?;
            Ok::<_, nano::Error>(begun.elapsed())
        }
    });
    let mut latency = latencies()?;
    let mut published = stream::iter(publications).buffer_unordered(AT_ONCE);
    while let Some(took) = published.next().await {
        latency.saturating_record(micros(took?));
    }
    let all = first + (PUBLICATIONS * MEMBERS) as u64;
    until("publications to arrive", || taken() >= all).await?;
    let sent = Usage::now();
    for node in nodes.into_iter().rev() {
        node.shutdown().await;
    }
    let joins = (size * MEMBERS) as f64;
    Ok(Point::default()
        .with(
            "CPU per publication",
            "us",
            sent.cpu_since(&joined) / PUBLICATIONS as f64,
        )
        .with(
            "p99 of a publication",
            "us",
            latency.value_at_quantile(0.99) as f64,
        )
        .with("CPU per join", "us", joined.cpu_since(&empty) / joins)
        .with(
            "memory per channel",
            "KiB",
            joined.memory_since(&empty) / size as f64 / 1024.0,
        ))
}

async fn gate(master: &str, limits: &Limits) -> Result<(Node, Taken)> {
    let (app, taken) = with_readers(App::new().limits(limits.clone()), SESSIONS);
    let cluster = Cluster::join([master]).listen("127.0.0.1:0");
    Ok((app.cluster(cluster).start().await?, taken))
}
