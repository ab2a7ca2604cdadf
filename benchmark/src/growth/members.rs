//! Members that have nothing to say to each other, and then are asked once each.

use std::{sync::Arc, time::Duration};

use futures_util::future::{join_all, try_join_all};
use nano::{App, Cluster, Node, Result};
use tokio::time::{Instant, sleep};

use super::{
    curve::Point,
    usage::{Usage, until},
};
use crate::servers::services::Echo;

/// Long enough for what a join has begun to be over, and for idle links to close.
const REST: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 15 });
const MEASURED: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

pub(super) async fn measure(size: usize) -> Result<Point> {
    let empty = Usage::now();
    let master = start(Cluster::master()).await?;
    let address = address(&master);
    let begun = Instant::now();
    let members = try_join_all((1..size).map(|_| start(Cluster::join([&address])))).await?;
    let all = || members.iter().chain([&master]);
    let equal = |others: usize| {
        all()
            .all(|node| node.handle().is_shutting_down() || node.handle().members().len() == others)
    };
    until("all tables to be equal", || equal(size - 1)).await?;
    let joined = begun.elapsed();

    sleep(REST).await;
    let before = Usage::now();
    sleep(MEASURED).await;
    let after = Usage::now();

    let closed = ask(&master, &members).await?;
    let open = ask(&master, &members).await?;

    // The others learn of it while it shuts down.
    let begun = Instant::now();
    let left = match members.last() {
        Some(leaver) => {
            let (known, _) = tokio::join!(
                until("the leave to be known", || equal(size - 2)),
                leaver.shutdown()
            );
            known?
        }
        None => begun.elapsed(),
    };
    let each = 1.0 / size as f64;
    let point = Point::default()
        .with("all tables equal", "ms", joined.as_secs_f64() * 1e3)
        .with("leave known to all", "ms", left.as_secs_f64() * 1e3)
        .with(
            "idle CPU, each",
            "% of a core",
            after.load_since(&before) * each,
        )
        .with(
            "memory, each",
            "MiB",
            after.memory_since(&empty) * each / 1048576.0,
        )
        .with(
            "descriptors, each",
            "",
            after.descriptors_since(&empty) * each,
        )
        .with("call over a link to be opened, p50", "ms", closed.0)
        .with("p99", "ms", closed.1)
        .with("call over an open link, p50", "ms", open.0)
        .with("p99", "ms", open.1);
    join_all(all().map(|node| node.shutdown())).await;
    Ok(point)
}

/// Calls each member, one after the other. Returns the median and the 99th percentile in milliseconds.
async fn ask(master: &Node, members: &[Arc<Node>]) -> Result<(f64, f64)> {
    let mut took = Vec::with_capacity(members.len());
    for member in members {
        let call = master.handle().call("Echo.Echo").to(address(member));
        let begun = Instant::now();
        call.raw("").await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_unstable_by(f64::total_cmp);
    let quantile = |percent: usize| took.get(took.len() * percent / 100);
    Ok((
        quantile(50).copied().unwrap_or_default(),
        quantile(99).copied().unwrap_or_default(),
    ))
}

async fn start(cluster: Cluster) -> Result<Arc<Node>> {
    let app = App::new()
        .component(Echo)
        .scheduler_threads(1)
        .io_threads(1);
    let node = app.cluster(cluster.listen("127.0.0.1:0")).start().await?;
    Ok(Arc::new(node))
}

fn address(node: &Node) -> String {
    let member = node.handle().member();
    member.map_or_else(String::new, |member| member.address().to_owned())
}
