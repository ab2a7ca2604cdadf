//! Properties of the reader of WebSocket frames on any input, shared by the fuzz target and the tests.

use nano_protocol::websocket::{Event, Fault, FrameReader};

/// What was read: the stream of packets, the control frames in order, and the fault.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    data: Vec<u8>,
    control: Vec<(&'static str, Vec<u8>)>,
    empty: usize,
    fault: Option<Fault>,
}

/// The first byte chooses the limit and how the rest is split. A split stream means what an unsplit
/// one does, and the data of one message stays within the limit.
pub(crate) fn websocket(data: &[u8]) {
    let [choice, stream @ ..] = data else { return };
    let limit = [0, 16, 65_536, 1 << 40][usize::from(choice % 4)];
    let whole = read(stream, limit, stream.len().max(1));
    assert_eq!(read(stream, limit, usize::from(choice / 4) + 1), whole);
    assert!(whole.data.len() <= stream.len());
    assert!(limit > 0 || whole.data.is_empty());
    for (kind, payload) in &whole.control {
        assert!(payload.len() <= 125);
        // Nothing is read behind a close.
        assert!(*kind != "close" || whole.control.last().unwrap().0 == "close");
    }
}

fn read(stream: &[u8], limit: u64, step: usize) -> Seen {
    let mut reader = FrameReader::of_client(limit);
    let mut seen = Seen::default();
    for piece in stream.to_vec().chunks_mut(step) {
        let result = reader.read(piece, |event| match event {
            Event::Data(bytes) => seen.data.extend_from_slice(bytes),
            Event::Ping(payload) => seen.control.push(("ping", payload.to_vec())),
            Event::Pong => seen.control.push(("pong", Vec::new())),
            Event::Close(payload) => seen.control.push(("close", payload.to_vec())),
            Event::Empty => seen.empty += 1,
        });
        if let Err(fault) = result {
            seen.fault = Some(fault);
            break;
        }
    }
    seen
}
