//! Users in the directory of a cluster.

use futures_util::{StreamExt, future::try_join_all, stream};
use nano::{App, Cluster, Node, Result, Unique, UserId};
use tokio::time::Instant;

use super::{
    curve::Point,
    readers::{Taken, with_readers},
    usage::{Usage, latencies, micros, until},
};

const GATES: usize = 3;
const PUSHES: usize = 10_000;
const AT_ONCE: usize = 64;
/// Users that are looked for at once, a few in each slot.
const SAMPLE: usize = 4096;

pub(super) async fn measure(size: usize) -> Result<Point> {
    let app = || App::new().unique_users(Unique::Replace);
    let cluster = Cluster::master().listen("127.0.0.1:0");
    let master = app().cluster(cluster).start().await?;
    let address = master
        .handle()
        .member()
        .map(|member| member.address().to_owned());
    let address = address.unwrap_or_default();
    let gates = (0..GATES).map(|at| {
        let count = size * (at + 1) / GATES - size * at / GATES;
        gate(app(), &address, count)
    });
    let gates = try_join_all(gates).await?;
    let members = |node: &Node| node.handle().members().len();
    until("members", || {
        members(&master) == GATES && gates.iter().all(|(gate, _)| members(gate) == GATES)
    })
    .await?;
    let count = |(gate, _): &(Node, Taken)| gate.handle().sessions().count();
    until("sessions", || {
        gates.iter().map(count).sum::<usize>() == size
    })
    .await?;
    let sessions: Vec<_> = gates
        .iter()
        .flat_map(|(gate, _)| gate.handle().sessions().list())
        .collect();

    let empty = Usage::now();
    let mut latency = latencies()?;
    let logins = sessions
        .into_iter()
        .enumerate()
        .map(|(at, session)| async move {
            let begun = Instant::now();
            session.login(UserId::from(at as i64 + 1)).await?;
            Ok::<_, nano::Error>(begun.elapsed())
        });
    let mut logins = stream::iter(logins).buffer_unordered(AT_ONCE);
    while let Some(took) = logins.next().await {
        latency.saturating_record(micros(took?));
    }
    drop(logins);
    let logged_in = Usage::now();

    let taken = || gates.iter().map(|(_, taken)| taken.count()).sum::<u64>();
    let first = taken();
    let mut pushed = latencies()?;
    let pushes = (0..PUSHES).map(|at| {
        let user = master.handle().user((at * 7919 % size) as i64 + 1);
        async move {
            let begun = Instant::now();
            user.push_raw("onNews", vec![b'x'; 64]).await?;
            Ok::<_, nano::Error>(begun.elapsed())
        }
    });
    let mut pushes = stream::iter(pushes).buffer_unordered(AT_ONCE);
    while let Some(took) = pushes.next().await {
        pushed.saturating_record(micros(took?));
    }
    until("pushes to arrive", || taken() >= first + PUSHES as u64).await?;
    let sent = Usage::now();

    // A member more: each owner gives a part of its slots up, and the new one asks the gates.
    let joining = app().cluster(Cluster::join([&address]).listen("127.0.0.1:0"));
    let joined = joining.start().await?;
    until("the new member to be known", || {
        members(&master) == GATES + 1 && gates.iter().all(|(gate, _)| members(gate) == GATES + 1)
    })
    .await?;
    let begun = Instant::now();
    let found = (0..SAMPLE).map(|at| {
        let user = joined.handle().user((at * 7919 % size) as i64 + 1);
        async move { Ok::<_, nano::Error>(user.locate().await?.len()) }
    });
    let found = try_join_all(found).await?;
    let served = begun.elapsed();
    if found.iter().any(|sessions| *sessions != 1) {
        let message = "a user is not found once after a join";
        return Err(nano::Error::new(nano::code::INTERNAL, message));
    }
    joined.shutdown().await;
    Ok(Point::default()
        .with(
            "CPU per login",
            "us",
            logged_in.cpu_since(&empty) / size as f64,
        )
        .with(
            "p99 of a login",
            "us",
            latency.value_at_quantile(0.99) as f64,
        )
        .with(
            "memory per user",
            "B",
            logged_in.memory_since(&empty) / size as f64,
        )
        .with(
            "CPU per push to a user",
            "us",
            sent.cpu_since(&logged_in) / PUSHES as f64,
        )
        .with("p99 of a push", "us", pushed.value_at_quantile(0.99) as f64)
        .with("all found after a join", "ms", served.as_secs_f64() * 1e3))
}

async fn gate(app: App, master: &str, count: usize) -> Result<(Node, Taken)> {
    let (app, taken) = with_readers(app, count);
    let cluster = Cluster::join([master]).listen("127.0.0.1:0");
    Ok((app.cluster(cluster).start().await?, taken))
}
