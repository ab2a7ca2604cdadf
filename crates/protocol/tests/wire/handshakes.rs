//! Handshake and kick bodies.

use std::time::Duration;

use nano_protocol::{
    handshake::{self, HandshakeError, OLD_CLIENT, Reply, ReplyTemplate, Request, Sys},
    kick::{Kick, Reconnect},
    message::Dictionary,
};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};

use crate::{dictionary, json_value};

#[test]
fn a_reply_is_the_bytes_that_nano_sends() {
    let reply = Reply::accepted()
        .with_heartbeat(Duration::from_secs(60))
        .with_servertime(1_795_198_612);
    assert_reply(
        &reply,
        r#"{"code":200,"sys":{"heartbeat":60,"servertime":1795198612}}"#,
    );

    let reply = reply
        .with_servertime(1_795_198_631)
        .with_dictionary(dictionary());
    let dict = r#"{"Dict.known":300,"Echo.Echo":1,"T.PushThenResp":65535,"onEcho":2}"#;
    assert_reply(
        &reply,
        &format!(
            r#"{{"code":200,"sys":{{"dict":{dict},"heartbeat":60,"servertime":1795198631}}}}"#
        ),
    );
}

#[test]
fn a_heartbeat_is_written_in_seconds_as_go_writes_floats() {
    let heartbeats = [
        (Duration::from_millis(1500), "1.5"),
        (Duration::from_millis(250), "0.25"),
        (Duration::from_micros(1), "0.000001"),
        (Duration::from_nanos(15), "1.5e-8"),
        (Duration::from_secs(86_400), "86400"),
    ];
    for (heartbeat, seconds) in heartbeats {
        let reply = Reply::accepted().with_heartbeat(heartbeat);
        assert_reply(
            &reply,
            &format!(r#"{{"code":200,"sys":{{"heartbeat":{seconds},"servertime":0}}}}"#),
        );
    }
    let none = r#"{"code":200,"sys":{"servertime":0}}"#;
    assert_reply(&Reply::default(), none);
    assert_eq!(
        Reply::accepted().with_heartbeat(Duration::ZERO).encode(),
        none.as_bytes()
    );
}

#[test]
fn text_is_escaped_as_go_escapes_it() {
    let reply = Reply::accepted()
        .with_dictionary(Dictionary::new([("a<b>&\"c", 1)]).unwrap())
        .with_user(json!({ "z": "\u{2028}\u{2029}\n\u{1}é", "a": 1 }));
    let dict = r#"{"a\u003cb\u003e\u0026\"c":1}"#;
    let user = r#"{"a":1,"z":"\u2028\u2029\n\u0001é"}"#;
    assert_reply(
        &reply,
        &format!(r#"{{"code":200,"sys":{{"dict":{dict},"servertime":0}},"user":{user}}}"#),
    );
}

#[test]
fn a_refusal_carries_its_code_and_the_reason() {
    assert_reply(
        &Reply::refusal(OLD_CLIENT, "update < 2"),
        r#"{"code":501,"msg":"update \u003c 2"}"#,
    );
    let mut silent = Reply::refusal(handshake::REFUSED, "");
    silent.message = None;
    assert_reply(&silent, r#"{"code":500}"#);
}

#[test]
fn a_reply_is_read_with_tolerance() {
    let decoded = |body: &str| Reply::decode(body.as_bytes()).unwrap();
    assert_eq!(decoded(r#"{"code":200}"#), Reply::default());
    assert_eq!(
        decoded(r#"{"code":200,"sys":7,"new":[{}]}"#),
        Reply::default()
    );
    for heartbeat in [
        "0", "-1", "-0.0", "1e-12", "86401", "1e300", "\"60\"", "\"NaN\"", "null", "{}",
    ] {
        assert_eq!(
            decoded(&format!(
                r#"{{"code":200,"sys":{{"heartbeat":{heartbeat}}}}}"#
            ))
            .heartbeat,
            None,
            "{heartbeat}"
        );
    }
    assert_eq!(
        decoded(r#"{"code":200,"sys":{"heartbeat":3e0}}"#).heartbeat,
        Some(Duration::from_secs(3))
    );
    assert_eq!(
        decoded(r#"{"code":200,"sys":{"servertime":12.9}}"#).servertime,
        12
    );
    let mut silent = Reply::refusal(500, "");
    silent.message = None;
    assert_eq!(decoded(r#"{"code":500}"#), silent);
}

#[test]
fn a_reply_that_cannot_be_used_is_an_error() {
    let error = |body: &str| Reply::decode(body.as_bytes()).unwrap_err();
    assert!(matches!(error(""), HandshakeError::Json(_)));
    for body in [
        "[]",
        "{}",
        r#"{"code":"200"}"#,
        r#"{"code":70000}"#,
        r#"{"code":-1}"#,
    ] {
        assert!(matches!(error(body), HandshakeError::Code), "{body}");
    }
}

#[test]
fn what_no_message_could_use_is_left_out_of_the_dictionary() {
    let long = "r".repeat(256);
    let dict = json!({
        "a": 1, " b": 2, "first": 3, "second": 3, "c": 4, "c ": 5, "": 6, " ": 7, "big": 65_536, "negative": -1, "text": "8", "null": null,
        &long: 9, "shares": 10, "r".repeat(257): 10, &long[1..]: 65_535,
    });
    let reply = Reply::decode(
        json!({ "code": 200, "sys": { "dict": dict } })
            .to_string()
            .as_bytes(),
    )
    .unwrap();
    assert_eq!(
        reply.dictionary,
        Dictionary::new([("a", 1), ("b", 2), (&long[1..], 65_535)]).unwrap()
    );
}

#[test]
fn a_request_of_a_javascript_client_is_understood() {
    let request = Request::decode(
        br#"{"sys":{"version":"1.1.1","type":"js-websocket","rsa":{}},"user":{"token":"t"}}"#,
    );
    assert_eq!(
        (&request.sys.kind[..], &request.sys.version[..]),
        ("js-websocket", "1.1.1")
    );
    assert_eq!(
        (&request.sys.others["rsa"], &request.user),
        (&json!({}), &json!({ "token": "t" }))
    );
    assert_eq!(
        request.encode(),
        br#"{"sys":{"rsa":{},"type":"js-websocket","version":"1.1.1"},"user":{"token":"t"}}"#
    );
}

/// A nickname that was cut inside a character, or written as pomelo's clients write it.
#[test]
fn text_that_is_no_text_costs_a_handshake_nothing_else() {
    for (name, read) in [
        (&br"ab\ud83d"[..], "ab\u{FFFD}"),
        (br"\ude00\ud83d", "\u{FFFD}\u{FFFD}"),
        (b"\xED\xA0\xBD\xED\xB8\x80", "\u{1F600}"),
        (b"\xFF", "\u{FFFD}"),
    ] {
        let body = [
            &br#"{"sys":{"type":"js"},"user":{"name":""#[..],
            name,
            br#"","token":"t"}}"#,
        ]
        .concat();
        let request = Request::decode(&body);
        assert_eq!(request.user, json!({ "name": read, "token": "t" }));
        assert_eq!((&*request.sys.kind, request.unread), ("js", None));
    }
}

#[test]
fn a_field_that_cannot_be_read_is_dropped_alone() {
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let request = Request::decode(
        format!(r#"{{"user":{nested},"sys":{{"type":"js","errorFlag":true}}}}"#).as_bytes(),
    );
    assert_eq!(request.user, Value::Null);
    assert!(request.sys.knows_error_flag());
    assert!(request.unread.unwrap().starts_with("user: "));
}

#[test]
fn an_empty_or_garbled_request_says_nothing() {
    for body in [
        &b""[..],
        b"\xff\x00\x01\x02\x03",
        b"{}",
        b"[1]",
        b"null",
        br#"{"sys":"#,
        br#"{"sys":3}"#,
    ] {
        let Request { sys, user, .. } = Request::decode(body);
        assert_eq!((sys, user), (Sys::default(), Value::Null));
    }
    assert_eq!(Request::decode(b""), Request::default());
    assert!(Request::decode(b"[1]").unread.is_some());
    assert_eq!(Request::decode(br#"{"sys":3,"user":1}"#).user, json!(1));
}

#[test]
fn a_kick_tells_its_reason_and_other_bodies_are_taken_as_text() {
    assert_eq!(
        Kick::because("<bye>").encode(),
        br#"{"reason":"\u003cbye\u003e"}"#
    );
    for (body, reason) in [
        (&br#"{"reason":"bye","x":1}"#[..], "bye"),
        (br#"{"reason":7}"#, "7"),
        (br#"{"reason":null}"#, ""),
        (b"bye!", "bye!"),
        (b"", ""),
        (b"\xff", "\u{FFFD}"),
    ] {
        assert_eq!(Kick::decode(body), Kick::because(reason));
    }
}

#[test]
fn what_a_kick_says_wrongly_counts_as_missing() {
    let kick = |json: &str| Kick::decode(json.as_bytes());
    assert_eq!(kick(r#"{"code":"X"}"#).reason, r#"{"code":"X"}"#);
    for rest in [
        r#""code":null,"reconnect":7,"retryAfter":"1""#,
        r#""reconnect":"Here","retryAfter":-1"#,
        r#""retryAfter":1e300"#,
        r#""retryAfter":86400001"#,
    ] {
        assert_eq!(
            kick(&format!(r#"{{"reason":"x",{rest}}}"#)),
            Kick::because("x")
        );
    }
    let full = kick(r#"{"retryAfter":0.5,"code":4,"reconnect":"never","reason":"x"}"#);
    assert_eq!((&*full.code, full.reconnect), ("4", Some(Reconnect::Never)));
    assert_eq!(full.retry_after, Some(Duration::from_micros(500)));
    let long = Kick::because("x").with_retry_after(Duration::MAX);
    assert_eq!(Kick::decode(&long.encode()), long);
}

proptest! {
    #[test]
    fn a_kick_survives_the_wire(code: String, reason: String, to in 0..4usize, millis in option::of(0..86_400_000u64)) {
        let to = [None, Some(Reconnect::Here), Some(Reconnect::Elsewhere), Some(Reconnect::Never)][to];
        let mut kick = Kick::new(code, reason);
        kick.reconnect = to;
        kick.retry_after = millis.map(Duration::from_millis);
        prop_assert_eq!(Kick::decode(&kick.encode()), kick);
    }

    #[test]
    fn a_reply_survives_the_wire_and_its_template_makes_the_same_bytes(
        millis in option::of(1..86_400_000u64), servertime: i64, routes in vec("[ -~é]{1,9}", 0..5), user in option::of(json_value()),
    ) {
        let reply = Reply::accepted()
            .with_heartbeat(millis.map(Duration::from_millis))
            .with_servertime(servertime)
            .with_dictionary(Dictionary::from_routes(routes).unwrap_or_default())
            .with_user(user);
        prop_assert_eq!(&Reply::decode(&reply.encode()).unwrap(), &reply);
        let template = ReplyTemplate::new(reply.heartbeat, &reply.dictionary);
        prop_assert_eq!(template.encode(servertime, reply.user.as_ref()), reply.encode());
    }

    #[test]
    fn a_request_and_a_kick_survive_the_wire(kind in "\\PC*", version in "\\PC*", user in json_value(), reason in any::<String>()) {
        let request = Request::new(Sys::new(kind, version), user);
        prop_assert_eq!(&Request::decode(&request.encode()), &request);
        let kick = Kick::because(reason);
        prop_assert_eq!(Kick::decode(&kick.encode()), kick);
    }
}

#[track_caller]
fn assert_reply(reply: &Reply, bytes: &str) {
    assert_eq!(String::from_utf8(reply.encode()).unwrap(), bytes);
    assert_eq!(&Reply::decode(bytes.as_bytes()).unwrap(), reply);
}
