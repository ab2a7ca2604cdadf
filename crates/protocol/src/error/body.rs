//! The body of an error reply on the wire, in JSON and in protobuf.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

/// The fields of an error, as a JSON object.
#[derive(Serialize, Deserialize)]
pub(super) struct Json<'a> {
    #[serde(borrow)]
    pub(super) code: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) msg: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
}

/// `nano.v1.Error` of `proto/error.proto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Protobuf {
    #[prost(string, tag = "1")]
    pub(super) code: String,
    #[prost(string, tag = "2")]
    pub(super) msg: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) metadata: BTreeMap<String, String>,
}

/// The first byte of a protobuf body: field 1, which has a length.
const PROTOBUF: u8 = 0x0a;

impl Json<'_> {
    pub(super) fn encode(&self) -> Bytes {
        // Strings always serialize; an empty body would still complete the request.
        serde_json::to_vec(self)
            .map(Bytes::from)
            .unwrap_or_default()
    }
}

/// Reads a body of either form. `None` for any other.
pub(super) fn decode(body: &[u8]) -> Option<Protobuf> {
    // A line feed may precede a JSON object as well.
    if let Ok(Json {
        code,
        msg,
        metadata,
    }) = serde_json::from_slice(body)
    {
        return Some(Protobuf {
            code: code.into_owned(),
            msg: msg.into_owned(),
            metadata,
        });
    }
    (body.first() == Some(&PROTOBUF))
        .then(|| Protobuf::decode(body).ok())
        .flatten()
        .filter(|error| !error.code.is_empty())
}
