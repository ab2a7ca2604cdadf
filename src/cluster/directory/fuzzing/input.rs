//! The input of a check, as numbers, names and messages.

use prost::Message;

use crate::{
    cluster::directory::{
        message::{Holding, Place, Replaced},
        slots::slot_of,
        view::NodeId,
    },
    session::UserId,
};

/// Slots of all views here, so that a view costs little.
pub(super) const SLOTS: u16 = 8;

/// What is left of the input. Behind its end everything is 0.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// A small number, or one of the largest.
    pub(super) fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX / 4096,
            small => small.into(),
        }
    }

    pub(super) fn session(&mut self) -> i64 {
        match self.byte() {
            255 => i64::MIN,
            254 => i64::MAX,
            small => (small % 8).into(),
        }
    }

    /// Bytes behind their length.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        self.0.split_off(..len).unwrap_or_default()
    }

    pub(super) fn node(&mut self) -> NodeId {
        let byte = self.byte();
        let address = ["a", "b", "c", "own"][usize::from(byte % 4)];
        NodeId {
            address: address.into(),
            incarnation: u64::from(byte / 4 % 2) + 1,
        }
    }

    pub(super) fn place(&mut self) -> Place {
        Place {
            gate: self.node(),
            session: self.session(),
        }
    }

    /// One of a few users in the slots of the views, or any other.
    pub(super) fn user(&mut self) -> UserId {
        let byte = self.byte();
        let other = match byte {
            0..128 => None,
            128..192 => UserId::of_parts(self.number().cast_signed(), ""),
            192.. => UserId::of_parts(0, &String::from_utf8_lossy(self.bytes())),
        };
        let mut few = (1..).map(UserId::from).filter(|user| slot_of(user) < SLOTS);
        other
            .or_else(|| few.nth(usize::from(byte % 4)))
            .unwrap_or_else(|| 1.into())
    }

    pub(super) fn slots(&mut self) -> Vec<u16> {
        let slots = self.bytes().iter();
        slots
            .map(|byte| {
                if *byte == 255 {
                    u16::MAX
                } else {
                    u16::from(*byte)
                }
            })
            .collect()
    }

    pub(super) fn holdings(&mut self) -> Vec<Holding> {
        let count = self.byte() % 4;
        let holding = |_| Holding {
            user: self.user(),
            session: self.session(),
            claim: self.number(),
            closing: self.flag(),
        };
        (0..count).map(holding).collect()
    }

    pub(super) fn replaced(&mut self) -> Vec<Replaced> {
        let count = self.byte() % 3;
        let replaced = |_| Replaced {
            user: self.user(),
            claimant: self.place(),
            late: self.flag(),
        };
        (0..count).map(replaced).collect()
    }

    /// A message of any bytes, if they are one.
    pub(super) fn message<M: Message + Default>(&mut self) -> Option<M> {
        M::decode(self.bytes()).ok()
    }
}
