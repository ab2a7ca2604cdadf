//! Pushes: messages of the server that no request asked for.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use crate::{
    error::{Error, Result, code},
    message::{self, Dictionary},
    packet,
};

/// One push to one or many sessions. Its packet is encoded once and shared.
///
/// A [`SessionSink`](crate::SessionSink) receives it:
///
/// ```
/// use nano::Push;
///
/// let push = Push::new("onMove", "{}".into());
/// assert_eq!((push.route(), &push.body()[..]), ("onMove", &b"{}"[..]));
/// ```
#[derive(Debug)]
pub struct Push<'a> {
    route: &'a str,
    body: Bytes,
    packet: OnceLock<(Arc<Dictionary>, Bytes)>,
}

impl<'a> Push<'a> {
    /// Makes a push of an encoded body.
    pub fn new(route: &'a str, body: Bytes) -> Self {
        Self {
            route,
            body,
            packet: OnceLock::new(),
        }
    }

    /// The route.
    pub fn route(&self) -> &'a str {
        self.route
    }

    /// The encoded body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Checks the limits that hold for every receiver.
    ///
    /// # Errors
    /// [`code::TOO_LARGE`].
    pub(crate) fn check(&self) -> Result {
        if self.route.len() > message::MAX_ROUTE {
            return Err(Error::new(
                code::TOO_LARGE,
                format!(
                    "a route of {} bytes, over the limit of {}",
                    self.route.len(),
                    message::MAX_ROUTE
                ),
            ));
        }
        if self.body.len() > packet::MAX_BODY - message::MAX_ROUTE - 2 {
            return Err(Error::new(
                code::TOO_LARGE,
                format!("push {}: a body of {} bytes", self.route, self.body.len()),
            ));
        }
        Ok(())
    }

    /// The packet for clients with this dictionary. All clients of a node share one dictionary, so
    /// a broadcast encodes once per node.
    pub(crate) fn packet(&self, dictionary: &Arc<Dictionary>) -> Result<Bytes> {
        if let Some((of, packet)) = self.packet.get() {
            if Arc::ptr_eq(of, dictionary) {
                return Ok(packet.clone());
            }
            return self.encode(dictionary);
        }
        let packet = self.encode(dictionary)?;
        // Two threads may both encode. The packets are equal, and the first is kept.
        let _ = self.packet.set((dictionary.clone(), packet.clone()));
        Ok(packet)
    }

    fn encode(&self, dictionary: &Dictionary) -> Result<Bytes> {
        let mut out =
            BytesMut::with_capacity(packet::HEADER + 2 + self.route.len() + self.body.len());
        packet::encode_with(packet::Kind::Data, &mut out, |out| {
            message::encode_push(self.route, &self.body, dictionary, out)
                .map_err(|error| Error::new(code::TOO_LARGE, error.to_string()))
        })
        .map_err(|error| {
            Error::new(
                code::TOO_LARGE,
                format!("push {}: {}", self.route, error.expose().message()),
            )
        })?;
        Ok(out.freeze())
    }
}

/// Pushes to many sessions of one gate with one frame.
pub trait GateMulticast: Send + Sync {
    /// Queues a push to the sessions with these ids. Those of them that another gate has now are added
    /// to `displaced` instead.
    ///
    /// # Errors
    /// The gate cannot be reached, or its send queue is full.
    fn push(&self, sessions: Vec<i64>, push: &Push<'_>, displaced: &mut Vec<i64>) -> Result;
}
