//! Properties of the decoders on any input, shared by the fuzz targets and the tests.

use std::{collections::BTreeMap, ops::Range, sync::LazyLock};

use bytes::{Bytes, BytesMut};
use nano_protocol::{
    Decode, Encode, Json,
    handshake::{Reply, Request},
    kick::Kick,
    message::{Dictionary, Kind, Message, MessageError, RouteFault},
    packet::{self, Decoder, HEADER, Packet, PacketError},
    resume::{Ask, Endpoint, Grant, Limits},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The first byte chooses the limit and how the rest is split. A split stream gives the packets of
/// an unsplit one, and each byte ends up in a packet, in the decoder, or behind an error.
pub(crate) fn packet(data: &[u8]) {
    let [choice, stream @ ..] = data else { return };
    let limit = [0, 4, 64, 65_536][usize::from(choice % 4)];
    let (expected, error, rest) = cut(stream, limit);

    for step in [usize::from(choice / 4) + 1, stream.len().max(1)] {
        let mut decoder = Decoder::new(limit);
        let mut missing = expected.iter();
        let mut failed = None;
        for chunk in stream.chunks(step) {
            decoder.feed(chunk);
            failed = drain(&mut decoder, &mut missing);
        }
        assert_eq!(missing.next(), None);
        assert_eq!(failed, error);
        assert_eq!(decoder.is_empty(), error.is_some() || rest.is_empty());
    }

    let mut again = BytesMut::new();
    for Packet { kind, body } in &expected {
        packet::encode(*kind, body, &mut again).unwrap();
    }
    assert_eq!(stream.strip_suffix(rest), Some(&again[..]));
}

/// The packets of a stream, the error that ends it, and the bytes that are in none of them.
fn cut(mut stream: &[u8], limit: usize) -> (Vec<Packet>, Option<PacketError>, &[u8]) {
    let mut packets = Vec::new();
    while stream.len() >= HEADER {
        let size = stream[1..HEADER]
            .iter()
            .fold(0, |size, &byte| size * 256 + usize::from(byte));
        let kind = match packet::Kind::try_from(stream[0]) {
            Ok(kind) if size <= limit => kind,
            Ok(_) => return (packets, Some(PacketError::TooLarge { size, limit }), stream),
            Err(error) => return (packets, Some(error), stream),
        };
        if stream.len() - HEADER < size {
            break;
        }
        packets.push(Packet {
            kind,
            body: Bytes::copy_from_slice(&stream[HEADER..HEADER + size]),
        });
        stream = &stream[HEADER + size..];
    }
    (packets, None, stream)
}

/// Takes what is decoded, which is the next of what is missing.
fn drain<'a>(
    decoder: &mut Decoder,
    missing: &mut impl Iterator<Item = &'a Packet>,
) -> Option<PacketError> {
    loop {
        match decoder.decode() {
            Ok(Some(packet)) => assert_eq!(Some(&packet), missing.next()),
            Ok(None) => return None,
            Err(error) => {
                assert_eq!(decoder.decode(), Err(error), "an error stays");
                return Some(error);
            }
        }
    }
}

/// A message accounts for each byte of its data and survives encoding with and without a
/// dictionary; an error names the fault.
pub(crate) fn message(data: &[u8]) {
    static DICTIONARIES: LazyLock<[Dictionary; 2]> = LazyLock::new(|| {
        let codes = [
            ("Echo.Echo", 1),
            ("onEcho", 2),
            ("Dict.known", 300),
            ("T.PushThenResp", 65_535),
        ];
        [Dictionary::new(codes).unwrap(), Dictionary::default()]
    });
    let dictionary = &DICTIONARIES[0];
    match Message::decode(Bytes::copy_from_slice(data), dictionary) {
        Ok(message) => {
            assert_eq!(route(data).end + message.body.len(), data.len());
            assert!(data.ends_with(&message.body));
            for dictionary in &*DICTIONARIES {
                let mut again = BytesMut::new();
                message.encode(dictionary, &mut again).unwrap();
                assert_eq!(
                    Message::decode(again.freeze(), dictionary),
                    Ok(message.clone())
                );
            }
        }
        Err(MessageError::Empty) => assert!(data.is_empty()),
        Err(MessageError::Kind(kind)) => assert!(kind > 3 && data[0] >> 1 & 7 == kind),
        Err(MessageError::Id) => assert!(data[1..].iter().all(|byte| byte & 0x80 != 0)),
        Err(MessageError::Route {
            kind,
            id,
            fault: RouteFault::Missing | RouteFault::Truncated,
        }) => {
            // With bytes enough behind it, it is the same message, and no longer too short.
            let longer = [data, &[0; 256]].concat();
            match Message::decode(longer.into(), dictionary) {
                Ok(message) => assert_eq!((message.kind, message.id), (kind, id)),
                Err(MessageError::Route {
                    kind: same,
                    id: also,
                    fault: RouteFault::UnknownCode(_) | RouteFault::NotUtf8,
                }) => {
                    assert_eq!((same, also), (kind, id));
                }
                Err(error) => panic!("{error}"),
            }
        }
        Err(MessageError::Route {
            fault: RouteFault::UnknownCode(code),
            ..
        }) => assert_eq!(dictionary.route(code), None),
        Err(MessageError::Route {
            fault: RouteFault::NotUtf8,
            ..
        }) => assert!(std::str::from_utf8(&data[route(data)]).is_err()),
        Err(error) => panic!("{error}"),
    }
}

/// Where the route or its code stands, if the data is long enough; the body follows it.
fn route(data: &[u8]) -> Range<usize> {
    let [request, response] = [Kind::Request, Kind::Response].map(|kind| kind as u8);
    let kind = data[0] >> 1 & 7;
    let mut start = 1;
    if kind == request || kind == response {
        start += 1 + data[start..]
            .iter()
            .take_while(|&&byte| byte & 0x80 != 0)
            .count();
    }
    if kind == response {
        start..start
    } else if data[0] & 1 != 0 {
        start..start + 2
    } else {
        start + 1..start + 1 + usize::from(data[start])
    }
}

/// What was understood of a body survives encoding.
pub(crate) fn handshake(data: &[u8]) {
    let request = Request::decode(data);
    if exact(&request.user) && request.sys.others.values().all(exact) {
        let again = Request::decode(&request.encode());
        assert_eq!((&again.sys, &again.user), (&request.sys, &request.user));
        assert_eq!(again.unread, None);
    }

    if let Ok(reply) = Reply::decode(data) {
        let again = Reply::decode(&reply.encode()).unwrap();
        assert_eq!((again.code, &again.message), (reply.code, &reply.message));
        assert_eq!(
            (again.heartbeat, again.servertime),
            (reply.heartbeat, reply.servertime)
        );
        assert_eq!(again.dictionary, reply.dictionary);
        if reply.user.as_ref().is_none_or(exact) {
            assert_eq!(again.user, reply.user);
        }
    }

    // Whole milliseconds are all that the wire has of a window.
    let kick = Kick::decode(data);
    let again = Kick::decode(&kick.encode());
    assert_eq!((again.reason, again.code), (kick.reason, kick.code));
    assert_eq!(again.reconnect, kick.reconnect);
}

/// A message whose fields have defaults, and a part of every shape.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sample {
    a: String,
    n: i64,
    small: Option<u8>,
    list: Vec<Sample>,
    map: BTreeMap<String, Sample>,
    pair: (bool, i8),
}

/// What is decoded survives encoding, and what serde decodes is decoded alike unless Go sees more.
pub(crate) fn json(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let decoded = <Json as Decode<Sample>>::decode(&body);
    if let Ok(sample) = &decoded {
        let again = <Json as Encode<Sample>>::encode(sample).unwrap();
        assert_eq!(&<Json as Decode<Sample>>::decode(&again).unwrap(), sample);
    }
    // Arrays and keys in another case aside, which serde takes for something else.
    let differs = data.contains(&b'[') || data.iter().any(u8::is_ascii_uppercase);
    let plain = data.is_ascii() && !differs && !data.contains(&b'\\');
    if let Ok(sample) = serde_json::from_slice::<Sample>(data)
        && plain
    {
        assert_eq!(decoded.unwrap(), sample);
    }
    if let Ok(value) = serde_json::from_slice::<Value>(data) {
        assert_eq!(<Json as Decode<Value>>::decode(&body).unwrap(), value);
    }
}

/// Heartbeats and returns of any content: counts never go back, what is kept is what follows the
/// acknowledged packets, and a replay is that and nothing else.
pub(crate) fn resume(data: &[u8]) {
    let mut endpoint = Endpoint::new(Limits::new(4096, 64));
    let (mut sent, mut acknowledged) = (0u64, 0u64);
    for command in data.chunks(12) {
        let (&choice, body) = command.split_first().unwrap();
        match choice % 4 {
            0 => {
                let mut out = BytesMut::new();
                packet::encode(packet::Kind::Data, &sent.to_be_bytes(), &mut out).unwrap();
                endpoint.record(&out.freeze());
                sent += 1;
            }
            1 => endpoint.receive(body.len()),
            2 => {
                let before = endpoint.unacknowledged();
                if endpoint.on_heartbeat(body).is_err() {
                    assert_eq!(endpoint.unacknowledged(), before);
                }
            }
            _ => {
                let received = u64::from(body.first().copied().unwrap_or_default());
                let Ok(replay) = endpoint.resume(received) else {
                    continue;
                };
                assert!(acknowledged <= received && received <= sent);
                acknowledged = received;
                let numbers: Vec<_> = replay
                    .concat()
                    .chunks(HEADER + 8)
                    .map(|packet| u64::from_be_bytes(packet[HEADER..].try_into().unwrap()))
                    .collect();
                assert!(numbers.into_iter().eq(received..sent));
            }
        }
        assert_eq!(endpoint.sent(), sent);
        let (bytes, messages) = endpoint.unacknowledged();
        assert!(messages <= 64 && bytes == messages * (HEADER + 8));
    }

    if let Ok(field) = serde_json::from_slice(data) {
        if let Some(ask) = Ask::decode(&field) {
            assert_eq!(Ask::decode(&ask.encode()), Some(ask));
        }
        if let Some(grant) = Grant::decode(&field) {
            let again = Grant::decode(&grant.encode()).unwrap();
            assert_eq!(
                (&again.token, again.received),
                (&grant.token, grant.received)
            );
            assert_eq!(again.lost, grant.lost);
        }
    }
}

/// Whether it has no floats: parsing may lose their last digit, which no check here is about.
fn exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(values) => values.iter().all(exact),
        Value::Object(fields) => fields.values().all(exact),
        _ => true,
    }
}
