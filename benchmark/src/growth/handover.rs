//! How soon the users of an owner that is killed, joins or leaves can log in again, and what that costs
//! the messages of others meanwhile.

use std::{net::TcpListener, time::Duration};

use clap::Parser;
use futures_util::future::{join_all, try_join_all};
use nano::{Error, Result, code};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

use super::{
    curve::Point,
    nodes::{Has, Node, settle},
    slots::users_of,
};
use crate::{
    load::{self, Report, Sample},
    servers::users_node::{LogIn, Probe, Times, now},
};

/// What happens to one of four members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Kill,
    Join,
    Leave,
}

/// Clients of the first gate that log in when owners have changed; more than slots move.
const PROBES: usize = 512;
/// Gates compare what they have with owners five seconds after a change.
const REST: Duration = Duration::from_secs(12);
/// How long messages are sent before the change, and after.
const BEFORE: Duration = Duration::from_secs(6);
const AFTER: Duration = Duration::from_secs(10);
/// A member that is killed is missed after some seconds.
const MISSED: Duration = Duration::from_secs(6);
/// From the change of the view on, in microseconds: the part in which owners take slots over.
const MEANWHILE: u64 = 1_000_000;

pub(super) async fn measure(size: usize, change: Change) -> Result<Point> {
    let master = Node::master().await?;
    let gates = [size - size / 2 + PROBES, size / 2].map(|clients| Has {
        clients,
        ..Has::default()
    });
    let gates = try_join_all(gates.map(|has| Node::join(&master, has))).await?;
    let echo = Has {
        echo: true,
        ..Has::default()
    };
    let backend = Node::join(&master, echo).await?;
    let mut changing = match change {
        Change::Join => None,
        Change::Kill | Change::Leave => Some(Node::join(&master, Has::default()).await?),
    };
    let others = [&master, &gates[0], &gates[1], &backend];
    let count = others.len() + usize::from(changing.is_some());
    settle(&others, count).await?;
    let (first, second) = (size - size / 2, size / 2);
    let log_in = |first, count, user| LogIn {
        first,
        count,
        user,
        text: false,
    };
    let (at_first, at_second) = (
        log_in(PROBES, first, 1),
        log_in(0, second, first as i64 + 1),
    );
    tokio::try_join!(gates[0].log_in(&at_first), gates[1].log_in(&at_second))?;
    sleep(REST).await;

    let port = free_port()?;
    let address = match &changing {
        Some(node) => node.member.clone(),
        None => format!("127.0.0.1:{port}"),
    };
    let members: Vec<_> = others[1..]
        .iter()
        .map(|node| node.member.as_str())
        .collect();
    let users = users_of(&address, &[&members[..], &[&address]].concat(), size as i64);
    let urls = [&gates[0], &gates[1]].map(|gate| format!("tcp://{}", gate.address));
    let loads = ["Local.Echo", "Echo.Echo"].map(|route| start_load(route, &urls));
    sleep(BEFORE).await;
    let begun = now();
    let probe = Probe {
        nodes: if change == Change::Join {
            count + 1
        } else {
            count - 1
        },
        users,
    };
    let happens = async {
        match change {
            // The process ends with it.
            Change::Kill => drop(changing.take()),
            Change::Leave => {
                let leaver = changing.take();
                spawn_blocking(|| leaver.map_or(Ok(()), Node::stop)).await??;
            }
            Change::Join => {
                let has = Has {
                    port,
                    ..Has::default()
                };
                changing = Some(Node::join(&master, has).await?);
            }
        }
        Ok::<_, Error>(())
    };
    let views = try_join_all(others.map(|node| node.view(probe.nodes)));
    let times = gates[0].ask::<Times>("Drive.Probe", &probe);
    let (views, times, ()) = tokio::try_join!(views, times, happens)?;
    let view = views.iter().copied().min().unwrap_or(times.view);
    let everywhere = views.iter().copied().max().unwrap_or(times.view);
    let served = times.logins.iter().copied().max().unwrap_or(times.view);

    let ms = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e3;
    let mut point = Point::default()
        .with("view changes after", "ms", ms(begun, view))
        .with("view is everywhere", "ms", ms(view, everywhere))
        .with("slots that move", "", times.logins.len() as f64)
        .with("served again", "ms", ms(view, served));
    for (name, load) in ["local", "forwarded"]
        .into_iter()
        .zip(join_all(loads).await)
    {
        let report = load??;
        let lost = report.dropped + report.errors + report.corrupted;
        let (before, meanwhile, after) = (
            latency(&report.samples, begun - 5 * MEANWHILE..begun),
            latency(&report.samples, view..view + MEANWHILE),
            latency(&report.samples, view + MEANWHILE..u64::MAX),
        );
        point = point
            .with(&format!("{name} p50 before"), "us", before.0)
            .with("p50 meanwhile", "us", meanwhile.0)
            .with(&format!("{name} p99 before"), "us", before.1)
            .with("p99 meanwhile", "us", meanwhile.1)
            .with("p99 after", "us", after.1)
            .with("lost", "", lost as f64);
    }
    Ok(point)
}

/// Has twenty clients of two gates send 2,000 messages a second.
fn start_load(route: &str, gates: &[String]) -> JoinHandle<Result<Report>> {
    let seconds = (BEFORE + MISSED + AFTER).as_secs().to_string();
    let mut flags = vec!["load", "--connections", "20", "--rate", "2000"];
    flags.extend(["--route", route, "--warm-up", "0", "--duration", &seconds]);
    flags.extend(gates.iter().flat_map(|gate| ["--connect", gate]));
    let options = load::Options::try_parse_from(flags);
    spawn_blocking(move || {
        let mut options =
            options.map_err(|error| Error::new(code::BAD_REQUEST, error.to_string()))?;
        options.keep_samples = true;
        load::run(&options)
    })
}

/// The median and the 99th percentile of what was due in a part of the time.
fn latency(samples: &[Sample], part: std::ops::Range<u64>) -> (f64, f64) {
    let due = samples.iter().filter(|sample| part.contains(&sample.due));
    let mut latencies: Vec<_> = due.map(|sample| sample.latency).collect();
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100);
    let at = |percent| at(percent).map_or(0.0, |latency| *latency as f64);
    (at(50), at(99))
}

/// The owner of a slot depends on the addresses of nodes: that of one to come has to be known.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
