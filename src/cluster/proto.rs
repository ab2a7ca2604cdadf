//! The messages of the protocol between nodes, and the services that carry them.

use crate::{
    error::{Error, Result, code},
    member::{Info, Member},
};

pub(crate) use self::generated::*;

// Written by tests/codegen.rs.
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

/// An address longer than this is none; host names end at 253 bytes.
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

/// The member a message speaks of.
///
/// # Errors
/// It names none, or one without an address.
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

/// The members of a table; entries that name none are left out.
pub(super) fn members(infos: Vec<MemberInfo>) -> Vec<Member> {
    infos
        .into_iter()
        .filter_map(|info| member(Some(info)).ok())
        .collect()
}

pub(super) fn infos(members: &[Member]) -> Vec<MemberInfo> {
    members.iter().map(MemberInfo::from).collect()
}
