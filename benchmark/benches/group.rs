//! Groups: the cost of a broadcast without the network.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nano::{CloseReason, Group, Push, Result, Session, SessionSink};

/// Counts events.
#[derive(Debug, Default)]
struct Ear(AtomicUsize);

impl SessionSink for Ear {
    fn push(&self, push: &Push<'_>) -> Result {
        self.0.fetch_add(push.body().len(), Ordering::Relaxed);
        Ok(())
    }

    fn respond(&self, _: u64, _: Result<Bytes>) -> Result {
        Ok(())
    }

    fn rpc(&self, _: &Session, _: &str, _: Bytes) -> Result {
        Ok(())
    }

    fn close(&self, _: CloseReason) {}

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
}

fn broadcast(c: &mut Criterion) {
    let mut bench = c.benchmark_group("group");
    for members in [20, 100, 1000] {
        let (group, ear) = (Group::<nano::Json>::new("room"), Arc::new(Ear::default()));
        let sessions: Vec<Session> = (0..members)
            .map(|id| Session::new(id, ear.clone()))
            .collect();
        for session in &sessions {
            group.add(session).unwrap();
        }
        bench.throughput(Throughput::Elements(members as u64));
        let body = Bytes::from_static(&[b'x'; 64]);
        bench.bench_function(format!("broadcast to {members}"), |b| {
            b.iter(|| group.broadcast_raw("onMove", body.clone()).unwrap())
        });
        assert!(ear.0.load(Ordering::Relaxed) > 0);
    }
    bench.finish();
}

criterion_group!(benches, broadcast);
criterion_main!(benches);
