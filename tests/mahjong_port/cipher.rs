//! A pipeline that rewrites every body, both ways, in two steps that do not commute; and a format
//! for clients that speak through it.

use bytes::Bytes;
use nano::{Decode, Encode, Error, Pipeline, Result, Serializer, code};
use serde::{Serialize, de::DeserializeOwned};

const KEY: &[u8] = b"a key of their own";

/// The server's side: bodies are mixed with the key, then written in hexadecimal.
pub(crate) fn pipeline() -> Pipeline {
    let pipeline = Pipeline::new();
    pipeline.inbound().push_back(|_, message| {
        message.body = mix(&message.body);
        Ok(())
    });
    // Before the step above, although it is added behind it.
    pipeline.inbound().push_front(|_, message| {
        message.body = from_hex(&message.body)?;
        Ok(())
    });
    pipeline.outbound().push_back(|_, message| {
        message.body = mix(&message.body);
        Ok(())
    });
    pipeline.outbound().push_back(|_, message| {
        message.body = to_hex(&message.body);
        Ok(())
    });
    pipeline
}

pub(crate) fn seal(plain: &[u8]) -> Bytes {
    to_hex(&mix(plain))
}

pub(crate) fn open(sealed: &[u8]) -> Result<Bytes> {
    Ok(mix(&from_hex(sealed)?))
}

fn mix(bytes: &[u8]) -> Bytes {
    bytes
        .iter()
        .zip(KEY.iter().cycle())
        .map(|(byte, key)| byte ^ key)
        .collect()
}

fn to_hex(bytes: &[u8]) -> Bytes {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into()
}

fn from_hex(hex: &[u8]) -> Result<Bytes> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .ok_or_else(|| Error::new(code::BAD_REQUEST, "not sealed"))
    };
    hex.chunks(2)
        .map(|pair| Ok((digit(pair[0])? << 4 | digit(*pair.get(1).unwrap_or(&b'?'))?) as u8))
        .collect()
}

/// JSON behind the cipher: the client's side.
pub(crate) struct Sealed;

impl Serializer for Sealed {}

impl<M: Serialize + ?Sized> Encode<M> for Sealed {
    fn encode(message: &M) -> Result<Bytes> {
        Ok(seal(&serde_json::to_vec(message)?))
    }
}

impl<M: DeserializeOwned> Decode<M> for Sealed {
    fn decode(payload: &Bytes) -> Result<M> {
        Ok(serde_json::from_slice(&open(payload)?)?)
    }
}
