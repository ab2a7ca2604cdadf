//! The generated code of `clusterpb`, and conversions between its member info and [`Member`].

use crate::{
    error::{Error, Result, code},
    member::{Info, Member},
};

pub(crate) use self::generated::*;

// Written by proto/tests/codegen.rs.
mod generated {
    #![allow(
        clippy::all,
        clippy::unwrap_used,
        missing_docs,
        unreachable_pub,
        rust_2018_idioms
    )]
    include!("generated/clusterpb.rs");
}

/// The longest address that is accepted, in bytes. Host names have at most 253.
const MAX_ADDRESS: usize = 300;

impl From<&Member> for MemberInfo {
    fn from(member: &Member) -> Self {
        let Info {
            label,
            address,
            services,
            metadata,
            incarnation,
            link,
        } = member.info().clone();
        Self {
            label,
            service_addr: address,
            services,
            incarnation,
            metadata,
            link,
        }
    }
}

/// Converts a member info.
///
/// # Errors
/// It is missing, has no address, or one longer than [`MAX_ADDRESS`].
pub(super) fn member(info: Option<MemberInfo>) -> Result<Member> {
    let Some(MemberInfo {
        label,
        service_addr,
        services,
        incarnation,
        metadata,
        link,
    }) = info
    else {
        return Err(Error::new(code::BAD_REQUEST, "no member info"));
    };
    if service_addr.is_empty() || service_addr.len() > MAX_ADDRESS {
        return Err(Error::new(code::BAD_REQUEST, "a member without an address"));
    }
    Ok(Member::new(Info {
        label,
        address: service_addr,
        services,
        metadata,
        incarnation,
        link,
    }))
}

/// Converts a table. Entries without a valid address are left out.
pub(super) fn members(infos: Vec<MemberInfo>) -> Vec<Member> {
    infos
        .into_iter()
        .filter_map(|info| member(Some(info)).ok())
        .collect()
}

/// Converts members to a table.
pub(super) fn infos(members: &[Member]) -> Vec<MemberInfo> {
    members.iter().map(MemberInfo::from).collect()
}
