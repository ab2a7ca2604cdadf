//! Every recorded conversation between a client and nano, and between nodes of nano, replayed
//! against this server.
//!
//! Where nano behaves, the bytes have to be the same. Where it is wrong or silent, a promise of
//! this server takes the place of what it did; the entry says which one and why.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use replay::replay;
use transcript::{Pace, Transcript};

mod chat;
mod cluster_example;
#[path = "../support/go/mod.rs"]
mod go;
mod http;
mod nodes;
mod replay;
mod shutdown;
#[path = "../support/mod.rs"]
mod support;
mod transcript;

/// Where nano behaves: the same bytes.
macro_rules! same {
    ($($(#[$rule:meta])* $name:ident,)*) => {
        const SAME: &[&str] = &[$(stringify!($name)),*];

        mod same {
            use super::*;
            $($(#[$rule])* #[tokio::test] async fn $name() { replay(Transcript::load(stringify!($name))).await })*
        }
    };
}

/// Where it does not: what comes instead.
macro_rules! replaced {
    ($($(#[$rule:meta])* $name:ident => $instead:expr;)*) => {
        const REPLACED: &[&str] = &[$(stringify!($name)),*];

        mod replaced {
            use super::*;
            $($(#[$rule])* #[tokio::test] async fn $name() {
                let instead: fn(Transcript) -> Transcript = $instead;
                replay(instead(Transcript::load(stringify!($name)))).await
            })*
        }
    };
}

/// With the option that takes the error replies away again: the same bytes.
macro_rules! same_when_silent {
    ($($name:ident,)*) => {
        mod same_when_silent {
            use super::*;
            $(#[tokio::test] async fn $name() { replay(Transcript::load(stringify!($name)).silent()).await })*
        }
    };
}

same! {
    /// The body of a handshake can be pomelo's; the reply has its keys in Go's order.
    handshake_json,
    /// The body of a handshake can be empty.
    handshake_empty,
    /// The body of a handshake can be anything.
    handshake_garbage,
    /// The dictionary is in the reply, sorted by route.
    handshake_dict,
    /// The application sees the body of the handshake and may accept it.
    handshake_validator_ok,
    /// An application that refuses closes the connection without a word.
    handshake_validator_reject,
    /// A second handshake is answered again, and asks for another acknowledgement.
    duplicate_handshake_reack,
    /// An acknowledgement may carry a body.
    ack_with_body,
    /// An acknowledgement is enough to begin.
    ack_without_handshake,
    /// Data before the acknowledgement ends the connection.
    data_before_ack,
    /// Heartbeats may come before the handshake.
    heartbeat_before_handshake,
    /// Heartbeats may carry a body.
    heartbeat_with_body,
    /// A kick from a client means nothing.
    kick_from_client,

    /// Responses carry the id of their request, whatever its length.
    request_ids,
    /// The bits of an id above the 64th are dropped.
    request_id_overlong,
    /// Neither requests nor responses need a body.
    request_empty_body,
    /// A request that ends before its route ends the connection.
    request_no_route,
    /// A route that is longer than the message ends the connection.
    route_len_too_big,
    /// A response to a notify goes nowhere.
    notify_then_response,
    /// The bits of a flag without a meaning are ignored.
    flag_high_bits,
    /// Pushes have a route and perhaps a body.
    push_basic,
    /// JSON is escaped as Go does, and unknown fields are ignored.
    json_ok,

    /// A request's route can be a code.
    dict_request_compressed,
    /// A notify's route can be a code, and a push's route is one if it can be.
    dict_push_compressed,
    /// A code that is not in the dictionary ends the connection.
    dict_unknown_code,
    /// Without a dictionary every code ends the connection.
    nodict_code,

    /// Several packets may come at once.
    many_in_one_segment,
    /// Packets may come byte by byte.
    split_bytes,
    /// The longest packet a client may send has a body of 65,536 bytes.
    packet_64k_exact,
    /// What the server sends may be longer.
    response_large,

    /// Text frames are taken as well; replies are binary.
    ws_text,
    /// Clients mask with any key.
    ws_masked,
    /// Data before the acknowledgement closes without a closing frame.
    ws_data_before_ack,
    /// A frame may be empty.
    ws_empty_frame,
    /// A message may come in fragments.
    ws_fragmented,
    /// A packet may be split over frames.
    ws_split_frames,
    /// A frame may hold several packets; the server sends each in one of its own.
    ws_frames_per_packet,
    /// A session closed by its handler ends without a closing frame.
    ws_handler_close,
    /// Large packets are sent in one frame.
    ws_large,
    /// A ping is answered with its payload.
    ws_ping,
}

replaced! {
    /// Nano tells the time of its start; `servertime` is the time now.
    handshake_servertime_stale => |nano| nano.at_pace(Pace::Late);
    /// Nano waits for more bytes than the packet has; each packet counts as soon as it is there.
    split_small_body => |nano| nano.answered_before_the_last_packet().at_pace(Pace::Recorded);
    /// Nano garbles a route that is over 255 bytes; such a push is an error of its handler, and
    /// nothing is sent. Said to a request, it is an error reply.
    push_long_route => |nano| {
        let request = b"\x04\x00\x00\x15\x00\x01\x0FT.PushLongRouteXYZ";
        nano.nothing_at_the_end().then_send(request).error_reply(1, "NANO-413", "a route of 300 bytes")
    };

    // Promise 2, every request ends: nano writes these into its log and answers nothing.

    /// A handler's error, with its own code.
    handler_error => |nano| nano.error_reply(1, "T-ERR", "handler says no");
    /// A handler's panic; its words stay on the server.
    handler_panic => |nano| nano.error_reply(1, "NANO-500", "the handler panicked");
    /// A body the handler's type cannot be read from.
    json_invalid => |nano| nano.error_reply(1, "NANO-400", "invalid JSON: ");
    /// No body, where JSON is expected.
    json_empty => |nano| nano.error_reply(1, "NANO-400", "invalid JSON: ");
    /// The third body is not protobuf; the others get their answers.
    protobuf_ok => |nano| nano.error_reply(3, "NANO-400", "invalid protobuf: ");
    /// A route that is none.
    route_no_dot => |nano| nano.error_reply(1, "NANO-404", "route not found: nodot");
    /// A route that has a code but no handler.
    dict_code_no_handler => |nano| nano.error_reply(5, "NANO-404", "route not found: Nowhere.X");
    /// A uid that is none. Session ids are below 2^53, where nano's lose digits in JavaScript.
    ids => |nano| nano.error_reply(4, "NANO-400", "illegal uid: 0");
}

same_when_silent! {
    handler_error,
    handler_panic,
    json_invalid,
    json_empty,
    protobuf_ok,
    route_no_dot,
    dict_code_no_handler,
    ids,
}

/// Heartbeats: the same bytes at the same times.
const HEARTBEATS: &[&str] = &[
    // Whatever a client sends shows that it is alive.
    "heartbeat_data_refreshes",
    // A client is closed at the third heartbeat it has not answered.
    "heartbeat_idle_timeout_2s",
    // A client that sends heartbeats is not.
    "heartbeat_keepalive",
    // Heartbeats of clients are not answered.
    "heartbeat_not_answered",
    // The same over WebSocket.
    "ws_heartbeat",
];

/// All at once: each is mostly waiting.
#[tokio::test]
async fn heartbeats() {
    let replay = |name| {
        (
            name,
            tokio::spawn(replay(Transcript::load(name).at_pace(Pace::Recorded))),
        )
    };
    let replays: Vec<_> = HEARTBEATS.iter().map(|&name| replay(name)).collect();
    let mut failed = Vec::new();
    for (name, replay) in replays {
        if replay.await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Played by tests of their own.
const OTHERS: &[&str] = &[
    "example_chat_demo_session",
    "example_cluster_session",
    "sigterm",
    "ws_headers",
    "ws_wrong_path",
];

#[test]
fn every_transcript_is_replayed() {
    let mut replayed = [SAME, REPLACED, HEARTBEATS, OTHERS].concat();
    replayed.sort_unstable();
    let files = fs::read_dir(transcript::folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut recorded: Vec<_> = files
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    recorded.sort_unstable();
    assert_eq!(replayed, recorded);
}
