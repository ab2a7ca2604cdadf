//! Schedulers: what a task costs on its way to the thread that runs it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::mpsc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nano::{Pool, Scheduler};
use tokio::runtime::Runtime;

const TASKS: u64 = 1_000;

/// Gives every scheduler its share of the tasks, and waits for the last of each.
fn tasks(schedulers: &[Scheduler]) {
    let (done, finished) = mpsc::channel();
    for _ in 0..TASKS / schedulers.len() as u64 {
        schedulers
            .iter()
            .for_each(|scheduler| scheduler.push_task(|| {}).unwrap());
    }
    for scheduler in schedulers {
        let done = done.clone();
        scheduler.push_task(move || done.send(()).unwrap()).unwrap();
    }
    schedulers.iter().for_each(|_| finished.recv().unwrap());
}

fn scheduler(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let pool = Pool::new("bench", 2, runtime.handle().clone()).unwrap();
    let mut group = c.benchmark_group("scheduler");
    group.throughput(Throughput::Elements(TASKS));
    for count in [1, 50] {
        let schedulers: Vec<_> = (0..count)
            .map(|index| pool.scheduler(format!("room {index}"), 16 * 1024))
            .collect();
        group.bench_function(format!("1000 tasks on {count}"), |b| {
            b.iter(|| tasks(&schedulers))
        });
    }
    let alone = pool.scheduler("alone", 16);
    group.throughput(Throughput::Elements(1));
    group.bench_function("a task and its end, one at a time", |b| {
        b.iter(|| tasks_one(&alone))
    });
    group.finish();
}

fn tasks_one(scheduler: &Scheduler) {
    let (done, finished) = mpsc::channel();
    scheduler.push_task(move || done.send(()).unwrap()).unwrap();
    finished.recv().unwrap();
}

criterion_group!(benches, scheduler);
criterion_main!(benches);
