//! Packets and their decoder.

use bytes::{Bytes, BytesMut};
use nano_protocol::{
    message,
    packet::{self, Decoder, MAX_BODY, Packet, PacketError},
};
use proptest::{collection::vec, prelude::*};

use crate::hex;

const KINDS: [packet::Kind; 5] = [
    packet::Kind::Handshake,
    packet::Kind::Ack,
    packet::Kind::Heartbeat,
    packet::Kind::Data,
    packet::Kind::Kick,
];

#[test]
fn a_packet_is_kind_and_three_byte_length_and_body() {
    assert_eq!(
        packets(&hex("0400000d0001094563686f2e4563686f62")),
        [packet(packet::Kind::Data, b"\x00\x01\x09Echo.Echob")]
    );
    assert_eq!(
        packets(&hex("02000000 03000000")),
        [
            packet(packet::Kind::Ack, b""),
            packet(packet::Kind::Heartbeat, b"")
        ]
    );

    let mut out = BytesMut::new();
    packet::encode(packet::Kind::Data, &[7; 70_000], &mut out).unwrap();
    assert_eq!(&out[..5], [4, 0x01, 0x11, 0x70, 7]);
}

#[test]
fn a_small_body_after_its_header_needs_no_further_bytes() {
    let mut decoder = Decoder::new(64);
    decoder.feed(&hex("01000002"));
    assert_eq!(decoder.decode(), Ok(None));
    assert!(!decoder.is_empty());
    decoder.feed(b"{}");
    assert_eq!(
        decoder.decode(),
        Ok(Some(packet(packet::Kind::Handshake, b"{}")))
    );
    assert!(decoder.is_empty());
}

#[test]
fn a_body_may_be_as_long_as_the_limit_and_a_longer_one_is_refused_by_its_header() {
    let mut decoder = Decoder::new(65_536);
    decoder.feed(&hex("04010000"));
    assert_eq!(decoder.decode(), Ok(None));
    decoder.feed(&[1; 65_536]);
    assert_eq!(decoder.decode().unwrap().unwrap().body.len(), 65_536);

    decoder.feed(&hex("04010001"));
    assert_eq!(
        decoder.decode(),
        Err(PacketError::TooLarge {
            size: 65_537,
            limit: 65_536
        })
    );
}

#[test]
fn packets_before_an_unknown_kind_are_delivered_and_the_error_stays() {
    for kind in [0, 6, 9, 255] {
        let mut decoder = Decoder::new(64);
        decoder.feed(&[3, 0, 0, 0, kind, 0xFF, 0xFF, 0xFF, 3, 0, 0, 0]);
        assert_eq!(
            decoder.decode(),
            Ok(Some(packet(packet::Kind::Heartbeat, b"")))
        );
        assert_eq!(decoder.decode(), Err(PacketError::Kind(kind)));
        decoder.feed(&hex("03000000"));
        assert_eq!(decoder.decode(), Err(PacketError::Kind(kind)));
        assert!(decoder.is_empty());
    }
}

#[test]
fn a_long_body_that_comes_byte_by_byte_costs_no_more_per_byte() {
    let mut decoder = Decoder::new(MAX_BODY);
    decoder.feed(&hex("04000001 61 04200000"));
    let kept = decoder.decode().unwrap();
    for _ in 0..0x1F_FFFF {
        decoder.feed(b"x");
        assert_eq!(decoder.decode(), Ok(None));
    }
    decoder.feed(b"x");
    assert_eq!(decoder.decode().unwrap().unwrap().body.len(), 0x20_0000);
    assert_eq!(kept, Some(packet(packet::Kind::Data, b"a")));
}

#[test]
fn bodies_share_the_memory_of_the_chunk_they_came_in() {
    let mut decoder = Decoder::new(64);
    decoder.feed(&hex("04000002 6161 04000002 6262"));
    let first = decoder.decode().unwrap().unwrap().body;
    let second = decoder.decode().unwrap().unwrap().body;
    assert_eq!(second.as_ptr() as usize - first.as_ptr() as usize, 6);
}

#[test]
fn a_body_over_the_length_field_is_an_error_and_appends_nothing() {
    let mut out = BytesMut::from("before");
    let error = PacketError::TooLarge {
        size: MAX_BODY + 1,
        limit: MAX_BODY,
    };
    assert_eq!(
        packet::encode_header(packet::Kind::Data, MAX_BODY + 1, &mut out),
        Err(error)
    );
    assert_eq!(
        packet::encode(packet::Kind::Data, &vec![0; MAX_BODY + 1], &mut out),
        Err(error)
    );
    let too_long = |out: &mut BytesMut| {
        out.resize(out.len() + MAX_BODY + 1, 0);
        Ok(())
    };
    assert_eq!(
        packet::encode_with(packet::Kind::Data, &mut out, too_long),
        Err(error)
    );
    assert_eq!(&out[..], b"before");

    packet::encode_header(packet::Kind::Data, MAX_BODY, &mut out).unwrap();
    assert_eq!(&out[6..], [4, 0xFF, 0xFF, 0xFF]);
}

#[test]
fn a_body_written_in_place_makes_the_same_packet_and_its_failure_appends_nothing() {
    let mut out = BytesMut::from("before");
    packet::encode_with(packet::Kind::Data, &mut out, |out| {
        message::encode_response(1, false, b"b", out);
        Ok::<_, PacketError>(())
    })
    .unwrap();
    assert_eq!(&out[6..], hex("04000003 040162"));

    let failed: nano_protocol::Result = packet::encode_with(packet::Kind::Data, &mut out, |out| {
        out.extend_from_slice(b"half");
        Err(nano_protocol::Error::new("E", "no"))
    });
    assert_eq!(failed.unwrap_err().code(), "E");
    assert_eq!(out.len(), 6 + 7);
}

proptest! {
    #[test]
    fn a_stream_split_anywhere_gives_the_packets_of_the_whole(bodies in vec((0..5usize, vec(any::<u8>(), 0..40)), 0..8), cuts in vec(1..30usize, 1..20)) {
        let mut stream = BytesMut::new();
        let mut expected = Vec::new();
        for (kind, body) in bodies {
            packet::encode(KINDS[kind], &body, &mut stream).unwrap();
            expected.push(packet(KINDS[kind], &body));
        }
        prop_assert_eq!(&packets(&stream), &expected);

        let mut decoder = Decoder::new(64);
        let mut got = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        while !stream.is_empty() {
            let cut = cuts.next().unwrap().min(stream.len());
            decoder.feed(&stream.split_to(cut));
            while let Some(packet) = decoder.decode().unwrap() {
                got.push(packet);
            }
        }
        prop_assert_eq!(got, expected);
        prop_assert!(decoder.is_empty());
    }
}

fn packet(kind: packet::Kind, body: &[u8]) -> Packet {
    Packet {
        kind,
        body: Bytes::copy_from_slice(body),
    }
}

fn packets(stream: &[u8]) -> Vec<Packet> {
    let mut decoder = Decoder::new(MAX_BODY);
    decoder.feed(stream);
    std::iter::from_fn(|| decoder.decode().unwrap()).collect()
}
