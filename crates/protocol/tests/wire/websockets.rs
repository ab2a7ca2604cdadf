//! WebSocket frames, from both ends.

use nano_protocol::websocket::{
    Event, Fault, FrameReader, MAX_HEAD, Opcode, apply_mask, control, put_head,
};

/// A masked frame; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    out.extend(masked.map(|(byte, mask)| byte ^ mask));
    out
}

/// What was read: the stream of packets, the control frames, and the fault.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    data: Vec<u8>,
    control: Vec<(char, Vec<u8>)>,
    empty: usize,
    fault: Option<Fault>,
}

/// Reads `bytes` in pieces of `piece` bytes.
fn read(bytes: &[u8], piece: usize) -> Seen {
    let mut reader = FrameReader::of_client(1_000_000);
    let mut seen = Seen::default();
    for piece in bytes.to_vec().chunks_mut(piece) {
        let result = reader.read(piece, |event| match event {
            Event::Data(bytes) => seen.data.extend_from_slice(bytes),
            Event::Ping(payload) => seen.control.push(('i', payload.to_vec())),
            Event::Pong => seen.control.push(('o', Vec::new())),
            Event::Close(payload) => seen.control.push(('c', payload.to_vec())),
            Event::Empty => seen.empty += 1,
        });
        if let Err(fault) = result {
            seen.fault = Some(fault);
            break;
        }
    }
    seen
}

fn fault(bytes: &[u8]) -> Option<Fault> {
    let whole = read(bytes, usize::MAX);
    for piece in 1..16 {
        assert_eq!(read(bytes, piece), whole, "in pieces of {piece}");
    }
    whole.fault
}

#[test]
fn frames_of_every_length_are_read_in_pieces_of_every_length() {
    let body = |len: usize| -> Vec<u8> { (0..len).map(|at| (at % 251) as u8).collect() };
    let mut bytes = Vec::new();
    let mut data = Vec::new();
    for len in [1, 2, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 70_001] {
        bytes.extend(frame(0x82, &body(len)));
        bytes.extend(frame(0x89, b"ping"));
        data.extend(body(len));
    }
    // A fragmented text whose bytes are not UTF-8, with a ping and an empty fragment inside.
    bytes.extend(frame(0x01, b"\xff\xfe"));
    bytes.extend(frame(0x8A, b"pong"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x80, b"\x80"));
    data.extend(b"\xff\xfe\x80");
    bytes.extend(frame(0x88, b"\x03\xe8bye"));
    // Not read.
    bytes.extend(b"garbage behind the close frame");
    for piece in [1, 2, 3, 5, 13, 14, 15, 1_000, usize::MAX] {
        let seen = read(&bytes, piece);
        assert_eq!(seen.fault, None);
        assert!(seen.data == data, "in pieces of {piece}");
        assert_eq!(seen.empty, 1);
        assert_eq!(seen.control.len(), 13);
        assert_eq!(seen.control[0], ('i', b"ping".to_vec()));
        assert_eq!(seen.control[12], ('c', b"\x03\xe8bye".to_vec()));
    }
}

#[test]
fn what_breaks_the_protocol_is_named() {
    let protocol = |fault| Some(Fault::Protocol(fault));
    for (bytes, expected) in [
        (frame(0xC2, b""), protocol("a reserved bit is set")),
        (frame(0xA2, b""), protocol("a reserved bit is set")),
        (frame(0x99, b""), protocol("a reserved bit is set")),
        (frame(0x83, b""), protocol("an unknown opcode")),
        (frame(0x8F, b""), protocol("an unknown opcode")),
        (frame(0x09, b""), protocol("a fragmented control frame")),
        (
            frame(0x89, &[0; 126]),
            protocol("a control frame with an extended length"),
        ),
        (
            vec![0x8A, 0xFE, 0, 1, 0, 0, 0, 0, 1],
            protocol("a control frame with an extended length"),
        ),
        (
            vec![0x88, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            protocol("a control frame with an extended length"),
        ),
        (
            frame(0x80, b""),
            protocol("a continuation without a message"),
        ),
        (
            [frame(0x02, b"a"), frame(0x82, b"b")].concat(),
            protocol("a new message within a fragmented one"),
        ),
        (vec![0x82, 1, 1], protocol("a frame without a mask")),
        (
            frame(0x88, b"\x03"),
            protocol("a close frame with half a code"),
        ),
        (
            frame(0x88, b"\x03\xe8\xff"),
            protocol("a close reason that is not UTF-8"),
        ),
        (frame(0x88, b""), None),
        (frame(0x88, b"\x03\xe8"), None),
        (frame(0x89, &[0; 125]), None),
        // Data may have a longer length than it needs.
        (vec![0x82, 0xFE, 0, 1, 0, 0, 0, 0, 1], None),
        (vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], None),
    ] {
        assert_eq!(fault(&bytes), expected, "{bytes:x?}");
    }
}

#[test]
fn close_codes_that_must_not_be_sent_are_refused() {
    for code in [
        0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        let expected = Some(Fault::Protocol("an invalid close code"));
        assert_eq!(fault(&frame(0x88, &code.to_be_bytes())), expected, "{code}");
    }
    for code in [
        1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        assert_eq!(fault(&frame(0x88, &code.to_be_bytes())), None, "{code}");
    }
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_head() {
    let too_large = Some(Fault::TooLarge { limit: 1_000_000 });
    let huge = |len: u64| {
        let mut head = vec![0x82, 0xFF];
        head.extend(len.to_be_bytes());
        head.extend([0; 4]);
        head
    };
    assert_eq!(fault(&huge(1_000_000)), None);
    assert_eq!(fault(&huge(1_000_001)), too_large);
    assert_eq!(fault(&huge(u64::MAX)), too_large);
    let fragments = [
        frame(0x02, &[0; 999_999]),
        frame(0x00, b"1"),
        frame(0x00, b"2"),
    ];
    assert_eq!(read(&fragments.concat(), usize::MAX).fault, too_large);
}

#[test]
fn what_one_end_writes_the_other_reads() {
    let body = |len: usize| -> Vec<u8> { (0..len).map(|at| (at % 251) as u8).collect() };
    let close = b"\x03\xe8bye";
    for mask in [None, Some([0x37, 0xFA, 0x21, 0x3D])] {
        let mut bytes = Vec::new();
        let mut data = Vec::new();
        for len in [1, 125, 126, 65_535, 65_536] {
            let begin = bytes.len();
            put_head(&mut bytes, Opcode::Binary, len as u64, mask);
            assert!(bytes.len() - begin <= MAX_HEAD + mask.map_or(0, |mask| mask.len()));
            let begin = bytes.len();
            bytes.extend(body(len));
            if let Some(mask) = mask {
                apply_mask(&mut bytes[begin..], mask);
            }
            data.extend(body(len));
        }
        bytes.extend(control(Opcode::Ping, b"there?", mask));
        bytes.extend(control(Opcode::Close, close, mask));
        let reader = || match mask {
            Some(_) => FrameReader::of_client(1_000_000),
            None => FrameReader::of_server(1_000_000),
        };
        for piece in [1, 3, 1_000, bytes.len()] {
            let (mut reader, mut read, mut others) = (reader(), Vec::new(), Vec::new());
            for piece in bytes.clone().chunks_mut(piece) {
                let result = reader.read(piece, |event| match event {
                    Event::Data(bytes) => read.extend_from_slice(bytes),
                    Event::Ping(payload) | Event::Close(payload) => others.push(payload.to_vec()),
                    Event::Pong | Event::Empty => panic!("{event:?}"),
                });
                assert_eq!(result, Ok(()));
            }
            assert!(read == data, "in pieces of {piece}");
            assert_eq!(others, [&b"there?"[..], close]);
        }
    }
}

#[test]
fn a_mask_is_for_clients_only() {
    let read = |mut reader: FrameReader, frame: &[u8]| reader.read(&mut frame.to_vec(), |_| ());
    let (bare, masked) = ([0x82, 1, 1], [0x82, 0x81, 9, 9, 9, 9, 1]);
    let fault = |text| Err(Fault::Protocol(text));
    let (client, server) = (FrameReader::of_client, FrameReader::of_server);
    assert_eq!(read(client(9), &bare), fault("a frame without a mask"));
    assert_eq!(read(server(9), &masked), fault("a frame with a mask"));
    assert_eq!(read(client(9), &masked), Ok(()));
    assert_eq!(read(server(9), &bare), Ok(()));
}
