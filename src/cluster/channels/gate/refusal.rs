//! Why a gate takes no member.

use crate::error::{Error, code};

pub(in crate::cluster::channels) fn not_expected() -> Error {
    Error::new(code::CONFLICT, "the session is not expected")
}

pub(in crate::cluster::channels) fn too_many() -> Error {
    Error::new(code::TOO_MANY, "the session is in too many channels")
}
