//! Groups, each with a few of the same sessions.

use nano::{App, Group, Result};

use super::{
    curve::Point,
    readers::with_readers,
    usage::{Usage, until},
};

const SESSIONS: usize = 1_000;
const MEMBERS: usize = 10;
const BROADCASTS: usize = 50_000;
/// Broadcasts between two looks at what has arrived, so that no client looks slow.
const BATCH: usize = 500;

pub(super) async fn measure(size: usize) -> Result<Point> {
    let (app, taken) = with_readers(App::new(), SESSIONS);
    let node = app.start().await?;
    let sessions = node.handle().sessions();
    until("sessions", || sessions.count() == SESSIONS).await?;
    let sessions = sessions.list();

    let empty = Usage::now();
    let groups: Vec<Group> = (0..size)
        .map(|at| Group::new(format!("room-{at}")))
        .collect();
    for (at, group) in groups.iter().enumerate() {
        for member in 0..MEMBERS {
            group.add(&sessions[(at * MEMBERS + member) % SESSIONS])?;
        }
    }
    let joined = Usage::now();

    let body = vec![b'x'; 64];
    let first = taken.count();
    for sent in 0..BROADCASTS {
        groups[sent % size].broadcast_raw("onState", body.clone())?;
        if sent % BATCH == BATCH - 1 {
            let arrived = first + ((sent + 1) * MEMBERS) as u64;
            until("broadcasts to arrive", || taken.count() >= arrived).await?;
        }
    }
    let sent = Usage::now();
    let joins = (size * MEMBERS) as f64;
    let deliveries = (BROADCASTS * MEMBERS) as f64;
    let begun = Usage::now();
    for session in &sessions {
        session.close();
    }
    until("groups to be empty", || {
        groups.iter().all(|group| group.count() == 0)
    })
    .await?;
    let closed = Usage::now();
    node.shutdown().await;
    Ok(Point::default()
        .with(
            "CPU per delivery",
            "us",
            sent.cpu_since(&joined) / deliveries,
        )
        .with("CPU per join", "us", joined.cpu_since(&empty) / joins)
        .with(
            "CPU per leave at the close",
            "us",
            closed.cpu_since(&begun) / joins,
        )
        .with(
            "memory per group",
            "KiB",
            joined.memory_since(&empty) / size as f64 / 1024.0,
        ))
}
