//! The messages of `clusterpb`, and conversions between its member info and [`Member`].

use std::collections::HashSet;

use prost::Message;
use tonic::Status;

pub(crate) use self::generated::*;
use super::address;
pub(crate) use super::member_info::MemberInfo;
use crate::member::{self, Info, Member};

// Written by proto/tests/codegen.rs.
mod generated {
    #![allow(
        clippy::all,
        clippy::unwrap_used,
        missing_docs,
        unreachable_pub,
        rust_2018_idioms
    )]
    use crate::cluster::codec::NodeCodec as Codec;

    include!("generated/clusterpb.rs");
}

/// The longest address that is accepted, in bytes. Host names have at most 253.
const MAX_ADDRESS: usize = 300;

/// The longest label and the longest name of a service, in bytes.
const MAX_NAME: usize = 256;

/// The most services of one member.
const MAX_SERVICES: usize = 1024;

/// The longest encoded member info, in bytes: metadata and unknown fields are bounded by nothing
/// else.
const MAX_INFO: usize = 64 * 1024;

impl From<&Member> for MemberInfo {
    fn from(member: &Member) -> Self {
        let Info {
            label,
            address,
            services,
            metadata,
            incarnation,
            link,
            gate,
            admin,
            version,
            unknown,
        } = member.info().clone();
        Self {
            label,
            service_addr: address,
            services,
            incarnation,
            metadata,
            link,
            gate,
            admin,
            version,
            unknown,
        }
    }
}

/// Why a member info is not accepted.
#[derive(Debug)]
pub(super) enum InvalidMember {
    /// It is missing, or its address is empty or too long.
    Nameless,
    /// Another field is out of bounds.
    Field(String),
}

impl InvalidMember {
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Nameless => "a member needs an address of at most 300 bytes",
            Self::Field(reason) => reason,
        }
    }

    /// Returns the status for the caller: nano's text, and the reason where nano refuses nothing.
    pub(super) fn status(&self, text: &str) -> Status {
        match self {
            Self::Nameless => Status::unknown(text),
            Self::Field(reason) => Status::unknown(format!("{text}: {reason}")),
        }
    }
}

/// Converts a member info.
///
/// # Errors
/// It is missing, its address cannot be dialled, or it is out of bounds.
pub(super) fn member(info: Option<MemberInfo>) -> Result<Member, InvalidMember> {
    let info = info.unwrap_or_default();
    check(&info)?;
    let MemberInfo {
        label,
        service_addr,
        services,
        incarnation,
        metadata,
        link,
        gate,
        admin,
        version,
        unknown,
    } = info;
    Ok(Member::new(Info {
        label,
        address: service_addr,
        services,
        metadata,
        incarnation,
        link,
        gate,
        admin,
        version,
        unknown,
    }))
}

fn check(info: &MemberInfo) -> Result<(), InvalidMember> {
    let invalid = |reason: String| Err(InvalidMember::Field(reason));
    let address = &info.service_addr;
    if address.is_empty() || address.len() > MAX_ADDRESS {
        return Err(InvalidMember::Nameless);
    }
    if !address::is_dialable(address) {
        return invalid(format!("the address {address:?} is not host:port"));
    }
    if info.label.len() > MAX_NAME {
        return invalid(format!("a label of more than {MAX_NAME} bytes"));
    }
    if info.admin.len() > MAX_ADDRESS {
        return invalid(format!("an admin address of more than {MAX_ADDRESS} bytes"));
    }
    member::check_version(&info.version).map_err(InvalidMember::Field)?;
    if info.services.len() > MAX_SERVICES {
        return invalid(format!("more than {MAX_SERVICES} services"));
    }
    let mut names = HashSet::new();
    for name in &info.services {
        if name.is_empty() || name.len() > MAX_NAME {
            return invalid(format!(
                "the name of a service must have 1 to {MAX_NAME} bytes"
            ));
        }
        if !names.insert(name) {
            return invalid(format!("the service {name:?} twice"));
        }
    }
    if info.encoded_len() > MAX_INFO {
        return invalid(format!("more than {MAX_INFO} bytes"));
    }
    Ok(())
}

/// Converts a table. Entries that are not valid are left out: no message could reach them.
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

/// Returns the bytes that a member takes in a table.
pub(super) fn size(member: &Member) -> usize {
    MemberInfo::from(member).encoded_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields that this version does not know, as they are on the wire.
    const UNKNOWN: [&[u8]; 8] = [
        &[0x20, 0x96, 0x01],                               // 4: a varint
        &[0x20, 0x96, 0x81, 0x80, 0x00],                   // 4 again, longer than needed
        &[0xe0, 0x06, 0x01],                               // 108: a varint
        &[0xc2, 0x06, 3, b'a', b'b', b'c'],                // 104: bytes
        &[0xc2, 0x06, 0],                                  // 104 again: empty
        &[0xcd, 0x06, 1, 2, 3, 4],                         // 105: 32 bits
        &[0xd1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],             // 106: 64 bits
        &[0xdb, 0x06, 0x0b, 0x08, 0x01, 0x0c, 0xdc, 0x06], // 107: a group with a group in it
    ];

    #[test]
    fn unknown_fields_are_encoded_as_they_arrived() {
        let known = MemberInfo {
            label: "label".to_owned(),
            service_addr: "a:1".to_owned(),
            services: vec!["A".to_owned(), "B".to_owned()],
            incarnation: 7,
            metadata: [("key".to_owned(), "value".to_owned())].into(),
            link: true,
            gate: true,
            admin: String::new(),
            version: "1.4.2".to_owned(),
            unknown: Vec::new(),
        };
        let mut bytes = b"\x0a\x05label".to_vec();
        bytes.extend(UNKNOWN.concat());
        bytes.extend(b"\x12\x03a:1\x1a\x01A\x1a\x01B\xa0\x06\x07");
        bytes.extend(b"\xaa\x06\x0c\x0a\x03key\x12\x05value\xb0\x06\x01\xb8\x06\x01");
        bytes.extend(b"\xfa\x06\x051.4.2");
        let decoded = MemberInfo::decode(&*bytes).unwrap();
        let expected = MemberInfo {
            unknown: UNKNOWN.concat(),
            ..known
        };
        assert_eq!(decoded, expected);
        let encoded = decoded.encode_to_vec();
        assert_eq!(encoded.len(), bytes.len());
        assert!(encoded.ends_with(&UNKNOWN.concat()));
        assert_eq!(MemberInfo::decode(&*encoded).unwrap(), expected);
        // Through a table entry, too.
        let member = member(Some(decoded)).unwrap();
        assert_eq!(MemberInfo::from(&member), expected);
    }

    #[test]
    fn broken_unknown_fields_are_an_error() {
        let broken: [&[u8]; 6] = [
            &[0xb8, 0x06],
            &[0xc2, 0x06, 3, b'a'],
            &[0xcd, 0x06, 1],
            &[0xdb, 0x06, 0x08, 0x01],
            &[0xdc, 0x06],
            &[
                0xc2, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
        ];
        for bytes in broken {
            assert!(MemberInfo::decode(bytes).is_err(), "{bytes:02x?}");
        }
        let deep = [0xdb, 0x06].repeat(100_000);
        assert!(MemberInfo::decode(&*deep).is_err());
    }
}
