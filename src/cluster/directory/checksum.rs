//! How a gate and an owner compare what they have, without sending it.

use super::slots::user_hash;
use crate::{cluster::stable_hash::mix, session::UserId};

/// Returns the share of one session in the sum of its slot. Claims do not count: they change without
/// a notice.
pub(super) fn checksum(user: &UserId, session: i64) -> u64 {
    mix(user_hash(user) ^ mix(session as u64))
}
