//! The messages of channels between nodes, as `proto/players.proto` has them.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use prost::Message;

use super::{
    history::Keep,
    message::{Handover, JoinAnswer, JoinedAt, Publication, ToGate, ToOwner},
    request::Publish,
};
use crate::{
    channel::{Position, check_name},
    cluster::players::{
        ChannelCollect, ChannelDeliver, ChannelHandover, ChannelHeld, ChannelJoin, ChannelJoined,
        ChannelKept, ChannelName, ChannelPosition, ChannelPublication, ChannelPublish, HeldChannel,
    },
    error::{Error, Result, code},
};

/// The method of a message, and its encoded body.
pub(super) type Encoded = (&'static str, Vec<u8>);

pub(super) fn position(position: Position) -> ChannelPosition {
    let Position { epoch, offset } = position;
    ChannelPosition { epoch, offset }
}

/// # Errors
/// [`code::BAD_REQUEST`] for a position that no owner gives.
pub(super) fn from_position(position: ChannelPosition) -> Result<Position> {
    Position::named(position.epoch, position.offset)
}

/// The first position if there is none.
///
/// # Errors
/// As [`from_position`].
pub(super) fn from_optional(position: Option<ChannelPosition>) -> Result<Position> {
    from_position(position.unwrap_or_default())
}

/// Decodes the body of a call.
///
/// # Errors
/// [`code::BAD_REQUEST`].
pub(super) fn decode<M: Message + Default>(body: Bytes) -> Result<M> {
    M::decode(body).map_err(|_| malformed())
}

fn malformed() -> Error {
    Error::new(code::BAD_REQUEST, "malformed message of a channel")
}

impl ToOwner {
    pub(super) fn encode(self) -> Encoded {
        match self {
            Self::Join {
                channel,
                join,
                since,
                seen,
            } => {
                let message = ChannelJoin {
                    channel: channel.to_string(),
                    join,
                    since: since.map(position),
                    seen: Some(position(seen)),
                };
                ("Channels.Join", message.encode_to_vec())
            }
            Self::Part { channel } => {
                let channel = channel.to_string();
                ("Channels.Part", ChannelName { channel }.encode_to_vec())
            }
            Self::Held {
                view,
                before,
                channels,
                last,
            } => {
                let held = channels.into_iter().map(|(channel, seen)| HeldChannel {
                    channel: channel.to_string(),
                    seen: Some(position(seen)),
                });
                let channels = held.collect();
                let message = ChannelHeld {
                    view,
                    channels,
                    last,
                    before,
                };
                ("Channels.Held", message.encode_to_vec())
            }
            Self::Handover(handover) => {
                let kept = handover.kept.into_iter().map(|(kept, left)| ChannelKept {
                    publication: Some(publication(kept)),
                    left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                });
                let message = ChannelHandover {
                    view: handover.view,
                    channel: handover.channel.to_string(),
                    last: Some(position(handover.last)),
                    kept: kept.collect(),
                };
                ("Channels.Handover", message.encode_to_vec())
            }
        }
    }

    /// # Errors
    /// [`code::BAD_REQUEST`], also for another method.
    pub(super) fn decode(method: &str, body: Bytes) -> Result<Self> {
        match method {
            "Join" => {
                let message: ChannelJoin = decode(body)?;
                check_name(&message.channel)?;
                Ok(Self::Join {
                    channel: message.channel.into(),
                    join: message.join,
                    since: message.since.map(from_position).transpose()?,
                    seen: from_optional(message.seen)?,
                })
            }
            "Part" => {
                let message: ChannelName = decode(body)?;
                Ok(Self::Part {
                    channel: message.channel.into(),
                })
            }
            "Held" => {
                let message: ChannelHeld = decode(body)?;
                let mut channels = Vec::with_capacity(message.channels.len());
                for held in message.channels {
                    check_name(&held.channel)?;
                    let seen = from_optional(held.seen)?;
                    channels.push((held.channel.into(), seen));
                }
                Ok(Self::Held {
                    view: message.view,
                    before: message.before,
                    channels,
                    last: message.last,
                })
            }
            "Handover" => {
                let message: ChannelHandover = decode(body)?;
                check_name(&message.channel)?;
                let kept = message.kept.into_iter().map(|kept| {
                    let publication = kept.publication.ok_or_else(malformed)?;
                    let left = Duration::from_millis(kept.left_ms);
                    Ok((from_publication(publication)?, left))
                });
                Ok(Self::Handover(Handover {
                    view: message.view,
                    channel: message.channel.into(),
                    last: from_optional(message.last)?,
                    kept: kept.collect::<Result<_>>()?,
                }))
            }
            _ => Err(malformed()),
        }
    }
}

impl ToGate {
    pub(super) fn encode(self) -> Encoded {
        match self {
            Self::Joined {
                channel,
                join,
                answer,
            } => {
                let refused = answer == JoinAnswer::Full;
                let joined = match answer {
                    JoinAnswer::At(joined) => Some(joined),
                    JoinAnswer::Moved | JoinAnswer::Full => None,
                };
                let at = joined.as_ref().map(|joined| position(joined.position));
                let missed = joined.and_then(|joined| joined.missed);
                let message = ChannelJoined {
                    channel: channel.to_string(),
                    join,
                    position: at,
                    recovered: missed.is_some(),
                    missed: missed.into_iter().flatten().map(publication).collect(),
                    refused,
                };
                ("Channels.Joined", message.encode_to_vec())
            }
            Self::Deliver {
                channel,
                publication: delivered,
            } => {
                let message = ChannelDeliver {
                    channel: channel.to_string(),
                    publication: Some(publication(delivered)),
                };
                ("Channels.Deliver", message.encode_to_vec())
            }
            Self::Collect { view } => ("Channels.Collect", ChannelCollect { view }.encode_to_vec()),
        }
    }

    /// # Errors
    /// [`code::BAD_REQUEST`], also for another method.
    pub(super) fn decode(method: &str, body: Bytes) -> Result<Self> {
        match method {
            "Joined" => {
                let message: ChannelJoined = decode(body)?;
                let missed: Result<Vec<_>> =
                    message.missed.into_iter().map(from_publication).collect();
                let missed = missed?;
                let answer = match message.position {
                    Some(position) => JoinAnswer::At(JoinedAt {
                        position: from_position(position)?,
                        missed: message.recovered.then_some(missed),
                    }),
                    None if message.refused => JoinAnswer::Full,
                    None => JoinAnswer::Moved,
                };
                Ok(Self::Joined {
                    channel: message.channel.into(),
                    join: message.join,
                    answer,
                })
            }
            "Deliver" => {
                let message: ChannelDeliver = decode(body)?;
                let publication = message.publication.ok_or_else(malformed)?;
                Ok(Self::Deliver {
                    channel: message.channel.into(),
                    publication: from_publication(publication)?,
                })
            }
            "Collect" => Ok(Self::Collect {
                view: decode::<ChannelCollect>(body)?.view,
            }),
            _ => Err(malformed()),
        }
    }
}

impl Publish {
    /// # Errors
    /// [`code::BAD_REQUEST`].
    pub(super) fn decode(body: Bytes) -> Result<Self> {
        let message: ChannelPublish = decode(body)?;
        check_name(&message.channel)?;
        let keep = Keep {
            count: message.keep as usize,
            ttl: Duration::from_millis(message.keep_ms),
        };
        Ok(Self {
            channel: message.channel.into(),
            route: ByteString::try_from(message.route).map_err(|_| malformed())?,
            body: message.body,
            keep: (keep.count > 0).then_some(keep.within_bounds()),
        })
    }
}

fn publication(publication: Publication) -> ChannelPublication {
    ChannelPublication {
        position: Some(position(publication.position)),
        route: publication.route.into_bytes(),
        body: publication.body,
    }
}

fn from_publication(publication: ChannelPublication) -> Result<Publication> {
    Ok(Publication {
        position: from_optional(publication.position)?,
        route: ByteString::try_from(publication.route).map_err(|_| malformed())?,
        body: publication.body,
    })
}
