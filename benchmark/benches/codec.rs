//! Packets and messages: bytes in, values out.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nano::{
    message::{self, Dictionary, Message},
    packet::{self, Decoder, Kind},
};

const MESSAGES: u64 = 64;

fn stream(size: usize) -> Bytes {
    let mut out = BytesMut::new();
    for id in 1..=MESSAGES {
        let request = Message::request(id, "Echo.Echo", vec![b'x'; size]);
        packet::encode_with(Kind::Data, &mut out, |out| {
            request
                .encode(&Dictionary::default(), out)
                .map_err(nano::Error::from)
        })
        .unwrap();
    }
    out.freeze()
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(MESSAGES));
    let dictionary = Dictionary::default();
    for size in [64, 1024] {
        let stream = stream(size);
        group.bench_function(format!("decode 64 requests of {size} B"), |b| {
            b.iter(|| {
                let mut decoder = Decoder::new(64 * 1024);
                decoder.feed(&stream);
                while let Some(packet) = decoder.decode().unwrap() {
                    black_box(Message::decode(packet.body, &dictionary).unwrap());
                }
            });
        });
        let (body, mut out) = (vec![b'x'; size], BytesMut::with_capacity(128 * 1024));
        group.bench_function(format!("encode 64 responses of {size} B"), |b| {
            b.iter(|| {
                out.clear();
                for id in 1..=MESSAGES {
                    packet::encode_with(Kind::Data, &mut out, |out| {
                        message::encode_response(id, false, &body, out);
                        Ok::<_, packet::PacketError>(())
                    })
                    .unwrap();
                }
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
