//! Dispatch, and batches on the link between two nodes: whole messages from a client's socket and
//! back, on one thread.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Builder;

#[path = "../src/bin/counts/cases.rs"]
mod cases;
#[path = "../src/bin/counts/client.rs"]
mod client;
#[path = "../src/bin/counts/views.rs"]
mod views;

use cases::{Case, NAMES};

fn node(c: &mut Criterion) {
    let mut group = c.benchmark_group("node");
    for name in NAMES {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut case = runtime.block_on(Case::new(name)).unwrap();
        group.throughput(Throughput::Elements(case.messages));
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(case.exchange()).unwrap())
        });
        runtime.block_on(case.finish());
    }
    group.finish();
}

criterion_group!(benches, node);
criterion_main!(benches);
