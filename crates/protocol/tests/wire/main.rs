//! Packets, messages and handshakes, byte for byte.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use nano_protocol::message::Dictionary;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

#[path = "../../../../fuzz/checks.rs"]
mod checks;
mod handshakes;
mod messages;
mod packets;
mod resumes;
mod websockets;

proptest! {
    #[test]
    fn no_bytes_break_a_decoder(data in vec(prop_oneof![0..6u8, any::<u8>()], 0..300)) {
        checks::packet(&data);
        checks::message(&data);
        checks::handshake(&data);
        checks::json(&data);
        checks::resume(&data);
    }

    #[test]
    fn no_bytes_behind_a_valid_start_break_the_message_decoder(flag in 0..8u8, data in vec(prop_oneof![Just(0), Just(1), Just(0x80), any::<u8>()], 0..40)) {
        checks::message(&[&[flag], &data[..]].concat());
    }

    #[test]
    fn no_json_breaks_the_handshake_decoders(code in json_value(), heartbeat in json_value(), dict in json_value(), other in json_value()) {
        checks::handshake(json!({ "code": code, "sys": other, "user": dict, "reason": heartbeat }).to_string().as_bytes());
        let sys = json!({ "heartbeat": heartbeat, "servertime": code, "dict": dict, "type": other });
        checks::handshake(json!({ "code": 200, "sys": sys, "user": other }).to_string().as_bytes());
    }
}

fn dictionary() -> Dictionary {
    Dictionary::new([
        ("Echo.Echo", 1),
        ("onEcho", 2),
        ("Dict.known", 300),
        ("T.PushThenResp", 65_535),
    ])
    .unwrap()
}

/// JSON that parses to itself: no floats, for they may lose a digit.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(0), Just(1), Just(65_535), Just(65_536), any::<i64>()]
            .prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("\\PC{0,6}", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn hex(text: &str) -> Bytes {
    let digits: Vec<char> = text.chars().filter(|char| !char.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}
