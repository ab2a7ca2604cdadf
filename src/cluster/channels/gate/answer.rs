//! How a gate names its channels to an owner. No I/O.

use crate::{
    channel::Position,
    cluster::channels::message::{Name, ToOwner},
};

/// Channels in one [`ToOwner::Held`]. Few in tests, so that answers have several parts.
const HELD: usize = if cfg!(test) { 1 } else { 5_000 };

/// The parts of an answer, one at least.
pub(in crate::cluster::channels) fn held(
    view: u64,
    mut channels: Vec<(Name, Position)>,
) -> impl Iterator<Item = ToOwner> {
    channels.sort();
    let mut parts: Vec<_> = channels.chunks(HELD).map(<[_]>::to_vec).collect();
    if parts.is_empty() {
        parts.push(Vec::new());
    }
    let (mut before, mut left) = (0, parts.len());
    parts.into_iter().map(move |channels| {
        left -= 1;
        let part = ToOwner::Held {
            view,
            before,
            last: left == 0,
            channels,
        };
        if let ToOwner::Held { channels, .. } = &part {
            before += channels.len() as u64;
        }
        part
    })
}
