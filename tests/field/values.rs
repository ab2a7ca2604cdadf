//! Values that JSON of Go has a form of its own for.

use std::collections::{BTreeMap, HashMap};

use nano::{Decode, Encode, Json, Protobuf, bytes::Bytes, code};
use serde::{Deserialize, Serialize};

#[track_caller]
fn assert_written<T: Serialize>(value: &T, expected: &str) {
    let written = <Json as Encode<T>>::encode(value).unwrap();
    assert_eq!(written, expected);
}

/// Reported to rpg-encoder #5 and servicelogger #19. Go sorts every map by its keys.
#[test]
fn a_sorted_map_is_written_as_go_writes_it() {
    let map = BTreeMap::from([("b", 1), ("a", 2), ("B", 3), ("\u{fc}", 4)]);
    assert_written(&map, "{\"B\":3,\"a\":2,\"b\":1,\"\u{fc}\":4}");
    // Keys that are numbers are sorted as Go sorts them only if they are texts.
    let texts = BTreeMap::from([("10", 1), ("9", 2)]);
    assert_written(&texts, r#"{"10":1,"9":2}"#);
    let numbers = BTreeMap::from([(10, 1), (9, 2)]);
    assert_written(&numbers, r#"{"9":2,"10":1}"#);
    // A map that is not sorted has all its fields, in any order.
    let unsorted = HashMap::from([("b", 1), ("a", 2)]);
    let written = <Json as Encode<_>>::encode(&unsorted).unwrap();
    let read: BTreeMap<String, i32> = <Json as Decode<_>>::decode(&written).unwrap();
    assert_eq!(read, BTreeMap::from([("a".into(), 2), ("b".into(), 1)]));
}

/// Bytes as base64, as `[]byte` of Go is.
mod base64 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let bits = (0..3).fold(0, |bits, at| {
                bits << 8 | u32::from(group.get(at).copied().unwrap_or_default())
            });
            for at in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
                text.push(if at <= group.len() {
                    digit as char
                } else {
                    '='
                });
            }
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
        for byte in text.trim_end_matches('=').bytes() {
            let digit = DIGITS.iter().position(|digit| *digit == byte);
            bits = bits << 6 | digit.ok_or_else(|| D::Error::custom("no base64"))? as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
            }
        }
        Ok(bytes)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Blob {
    #[serde(with = "base64")]
    data: Vec<u8>,
}

/// Reported to nakama-godot #101. Go reads and writes `[]byte` as base64.
#[test]
fn bytes_are_base64_where_an_attribute_says_so_and_numbers_elsewhere() {
    for (bytes, text) in [
        (&[][..], ""),
        (&[1], "AQ=="),
        (&[1, 2], "AQI="),
        (&[1, 2, 3], "AQID"),
        (&[255, 254, 0, 62], "//4APg=="),
    ] {
        let (data, json) = (bytes.to_vec(), format!(r#"{{"data":"{text}"}}"#));
        assert_written(&Blob { data: data.clone() }, &json);
        // A key in another case is read, too.
        let json = Bytes::from(json.replace("data", "Data"));
        let read: Blob = <Json as Decode<_>>::decode(&json).unwrap();
        assert_eq!(read, Blob { data });
    }
    assert_written(&vec![1u8, 2, 3], "[1,2,3]");
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nested {
    #[prost(message, optional, boxed, tag = "1")]
    inner: Option<Box<Nested>>,
}

/// Reported to vector #19315. Go's protobuf reads 10,000 messages in each other.
#[test]
fn protobuf_messages_nest_a_hundred_deep_and_no_deeper() {
    let decode = |inner: usize| {
        let nested = (0..inner).fold(Nested::default(), |nested, _| Nested {
            inner: Some(Box::new(nested)),
        });
        let body = <Protobuf as Encode<Nested>>::encode(&nested).unwrap();
        <Protobuf as Decode<Nested>>::decode(&body).map(|read| read == nested)
    };
    assert!(decode(100).unwrap());
    let error = decode(101).unwrap_err();
    assert_eq!(error.code(), code::BAD_REQUEST, "{error}");
}
