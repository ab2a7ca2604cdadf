//! The message `clusterpb.MemberInfo`, which keeps fields it does not know.
//!
//! A member may be of a later version, or of another implementation, and announce more of itself
//! than this node understands. Generated messages drop such fields, so a master would hide them from
//! the other members. This type appends them, as they arrived, to what it encodes.

use std::collections::BTreeMap;

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut},
    encoding::{self, DecodeContext, WireType},
};

const LABEL: u32 = 1;
const SERVICE_ADDR: u32 = 2;
const SERVICES: u32 = 3;
const INCARNATION: u32 = 100;
const METADATA: u32 = 101;
const LINK: u32 = 102;
const GATE: u32 = 103;
const ADMIN: u32 = 110;
const VERSION: u32 = 111;

/// What a node announces of itself; `cluster.proto` documents the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MemberInfo {
    pub(crate) label: String,
    pub(crate) service_addr: String,
    pub(crate) services: Vec<String>,
    pub(crate) incarnation: u64,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) link: bool,
    pub(crate) gate: bool,
    pub(crate) admin: String,
    pub(crate) version: String,
    /// The encoded fields with other numbers, in the order they arrived.
    pub(crate) unknown: Vec<u8>,
}

impl Message for MemberInfo {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        if !self.label.is_empty() {
            encoding::string::encode(LABEL, &self.label, buffer);
        }
        if !self.service_addr.is_empty() {
            encoding::string::encode(SERVICE_ADDR, &self.service_addr, buffer);
        }
        encoding::string::encode_repeated(SERVICES, &self.services, buffer);
        if self.incarnation != 0 {
            encoding::uint64::encode(INCARNATION, &self.incarnation, buffer);
        }
        encoding::btree_map::encode(
            encoding::string::encode,
            encoding::string::encoded_len,
            encoding::string::encode,
            encoding::string::encoded_len,
            METADATA,
            &self.metadata,
            buffer,
        );
        if self.link {
            encoding::bool::encode(LINK, &self.link, buffer);
        }
        if self.gate {
            encoding::bool::encode(GATE, &self.gate, buffer);
        }
        if !self.admin.is_empty() {
            encoding::string::encode(ADMIN, &self.admin, buffer);
        }
        if !self.version.is_empty() {
            encoding::string::encode(VERSION, &self.version, buffer);
        }
        buffer.put_slice(&self.unknown);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let merge_text = encoding::string::merge;
        match tag {
            LABEL => merge_text(wire_type, &mut self.label, buffer, context),
            SERVICE_ADDR => merge_text(wire_type, &mut self.service_addr, buffer, context),
            SERVICES => {
                encoding::string::merge_repeated(wire_type, &mut self.services, buffer, context)
            }
            INCARNATION => {
                encoding::uint64::merge(wire_type, &mut self.incarnation, buffer, context)
            }
            METADATA => {
                encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
                encoding::btree_map::merge(
                    encoding::string::merge,
                    encoding::string::merge,
                    &mut self.metadata,
                    buffer,
                    context,
                )
            }
            LINK => encoding::bool::merge(wire_type, &mut self.link, buffer, context),
            GATE => encoding::bool::merge(wire_type, &mut self.gate, buffer, context),
            ADMIN => merge_text(wire_type, &mut self.admin, buffer, context),
            VERSION => merge_text(wire_type, &mut self.version, buffer, context),
            _ => {
                encoding::encode_key(tag, wire_type, &mut self.unknown);
                let mut copy = Copying {
                    from: buffer,
                    to: &mut self.unknown,
                };
                encoding::skip_field(wire_type, tag, &mut copy, context)
            }
        }
    }

    fn encoded_len(&self) -> usize {
        let text = |tag, text: &String| match text.is_empty() {
            true => 0,
            false => encoding::string::encoded_len(tag, text),
        };
        let incarnation = match self.incarnation {
            0 => 0,
            incarnation => encoding::uint64::encoded_len(INCARNATION, &incarnation),
        };
        let flag = |tag, is_set| match is_set {
            false => 0,
            true => encoding::bool::encoded_len(tag, &true),
        };
        text(LABEL, &self.label)
            + text(SERVICE_ADDR, &self.service_addr)
            + encoding::string::encoded_len_repeated(SERVICES, &self.services)
            + incarnation
            + encoding::btree_map::encoded_len(
                encoding::string::encoded_len,
                encoding::string::encoded_len,
                METADATA,
                &self.metadata,
            )
            + flag(LINK, self.link)
            + flag(GATE, self.gate)
            + text(ADMIN, &self.admin)
            + text(VERSION, &self.version)
            + self.unknown.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Copies what is read from a buffer.
struct Copying<'a, B> {
    from: &'a mut B,
    to: &'a mut Vec<u8>,
}

impl<B: Buf> Buf for Copying<'_, B> {
    fn remaining(&self) -> usize {
        self.from.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.from.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.to.put((&mut *self.from).take(count));
    }
}
