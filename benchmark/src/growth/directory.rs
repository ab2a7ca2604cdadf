//! What the directory of four nodes takes of the memory of each. All sessions are at the first one.

use std::time::Duration;

use futures_util::future::try_join_all;
use nano::Result;
use tokio::time::sleep;

use super::{
    curve::Point,
    nodes::{Has, Node, settle},
    slots::{owners, slot_of},
};
use crate::servers::users_node::{LogIn, user_id};

/// The members, all of which own users.
const MEMBERS: usize = 4;
/// One of so many users logs in before the memory is read: links are open then, and threads have run.
const WARM_UP: usize = 20;
/// Gates compare what they have with owners five seconds after a change.
const REST: Duration = Duration::from_secs(12);

pub(super) async fn measure(size: usize, text: bool) -> Result<Point> {
    let master = Node::master().await?;
    let join = |clients| {
        let has = Has {
            clients,
            ..Has::default()
        };
        Node::join(&master, has)
    };
    let mut members = try_join_all((1..MEMBERS).map(|_| join(0))).await?;
    members.insert(0, join(size).await?);
    let all: Vec<_> = members.iter().chain([&master]).collect();
    settle(&all, all.len()).await?;

    let first = size / WARM_UP;
    let log_in = |from: usize, count| LogIn {
        first: from,
        count,
        user: from as i64 + 1,
        text,
    };
    members[0].log_in(&log_in(0, first)).await?;
    sleep(REST).await;
    let memory = || all.iter().map(|node| node.memory()).collect::<Vec<_>>();
    let before = memory();
    members[0].log_in(&log_in(first, size - first)).await?;
    sleep(REST).await;
    let after = memory();

    let addresses: Vec<_> = members.iter().map(|node| node.member.as_str()).collect();
    let by_slot = owners(&addresses);
    let mut owned = [0_usize; MEMBERS];
    for user in first as i64 + 1..=size as i64 {
        owned[by_slot[usize::from(slot_of(&user_id(user, text)))]] += 1;
    }
    let grown = |at: usize| after[at].saturating_sub(before[at]) as f64;
    let each = |at: usize| grown(at) / owned[at] as f64;
    let (least, most) = (1..MEMBERS).map(each).fold((f64::MAX, 0.0), |all, it| {
        (f64::min(all.0, it), f64::max(all.1, it))
    });
    let others = (1..MEMBERS).map(grown).sum::<f64>();
    let users = (1..MEMBERS).map(|at| owned[at]).sum::<usize>() as f64;
    let new = (size - first) as f64;
    Ok(Point::default()
        .with("owner, for each user it owns", "B", others / users)
        .with("the least of an owner", "B", least)
        .with("the most of an owner", "B", most)
        .with("neither owner nor gate", "B", grown(MEMBERS) / new)
        .with("gate, for each session", "B", grown(0) / new))
}
