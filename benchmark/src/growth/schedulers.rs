//! Schedulers, as one for each room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nano::{Result, scheduler::Pool};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    time::{Instant, interval},
};

use super::{
    curve::Point,
    usage::{Usage, latencies, micros, until},
};

const TASKS: usize = 1_000_000;
/// Tasks on their way at a time.
const AT_ONCE: usize = 4_000;
/// The open loop: tasks a millisecond, and milliseconds.
const PACE: usize = 20;
const TICKS: usize = 3_000;

pub(super) async fn measure(size: usize) -> Result<Point> {
    let empty = Usage::now();
    let pool = Pool::new("growth", 2, Handle::current())?;
    let schedulers: Vec<_> = (0..size)
        .map(|at| pool.scheduler(format!("room-{at}"), 65_536))
        .collect();
    let made = Usage::now();

    let done = Arc::new(AtomicUsize::new(0));
    for sent in 0..TASKS {
        let counter = done.clone();
        schedulers[sent % size].push_task(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        })?;
        if sent % AT_ONCE == 0 {
            until("tasks to run", || {
                done.load(Ordering::Relaxed) + AT_ONCE > sent
            })
            .await?;
        }
    }
    until("tasks to run", || done.load(Ordering::Relaxed) == TASKS).await?;
    let ran = Usage::now();

    let waits = Arc::new(Mutex::new(latencies()?));
    let mut ticks = interval(Duration::from_millis(1));
    let mut next = 0;
    for _ in 0..TICKS {
        ticks.tick().await;
        for _ in 0..PACE {
            let (waits, pushed) = (waits.clone(), Instant::now());
            schedulers[next % size].push_task(move || {
                waits.lock().saturating_record(micros(pushed.elapsed()));
            })?;
            next += 1;
        }
    }
    until("tasks to run", || {
        waits.lock().len() == (PACE * TICKS) as u64
    })
    .await?;
    let p99 = waits.lock().value_at_quantile(0.99);
    pool.shutdown(Duration::from_secs(10)).await;
    Ok(Point::default()
        .with("CPU per task", "us", ran.cpu_since(&made) / TASKS as f64)
        .with("p99 of the wait", "us", p99 as f64)
        .with(
            "memory per scheduler",
            "B",
            made.memory_since(&empty) / size as f64,
        ))
}
