//! Defects that the simulation must find: each breaks one rule of the protocol on all nodes.

use super::{
    nodes::{MovePacket, Packet},
    world::World,
};
use crate::{
    channel::Position,
    cluster::channels::message::{JoinAnswer, JoinedAt, ToGate, ToOwner},
};

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    /// A gate does not say that its last member has left.
    NeverParts,
    /// A gate names no channel to an owner that asks.
    NamesNoChannels,
    /// A gate does not tell owners what it has seen.
    TellsNothingSeen,
    /// An owner hands a channel over without its last publication.
    HandsOverLess,
    /// A member that returns does not get the first publication that it has missed.
    SkipsFirstMissed,
    /// A session that moves gets the last publication again.
    RepeatsLast,
}

pub(super) const ALL: [Defect; 6] = [
    Defect::NeverParts,
    Defect::NamesNoChannels,
    Defect::TellsNothingSeen,
    Defect::HandsOverLess,
    Defect::SkipsFirstMissed,
    Defect::RepeatsLast,
];

impl World {
    /// Makes a packet what nodes with the defect send, or take it for.
    pub(super) fn distort(&self, packet: &mut Packet) {
        let Some(defect) = self.defect else { return };
        match (defect, packet) {
            (Defect::NeverParts, Packet::ToOwner(ToOwner::Part { channel })) => {
                *channel = "none".into();
            }
            (
                Defect::NamesNoChannels,
                Packet::ToOwner(ToOwner::Held {
                    before, channels, ..
                }),
            ) => {
                *before = 0;
                channels.clear();
            }
            (Defect::TellsNothingSeen, Packet::ToOwner(ToOwner::Held { channels, .. })) => {
                for (_, seen) in channels {
                    *seen = Position::default();
                }
            }
            (Defect::TellsNothingSeen, Packet::ToOwner(ToOwner::Join { seen, .. })) => {
                *seen = Position::default();
            }
            (Defect::HandsOverLess, Packet::ToOwner(ToOwner::Handover(handover))) => {
                handover.last.offset -= 1;
                handover.kept.pop();
            }
            (
                Defect::SkipsFirstMissed,
                Packet::ToGate(ToGate::Joined {
                    answer:
                        JoinAnswer::At(JoinedAt {
                            missed: Some(missed),
                            ..
                        }),
                    ..
                }),
            ) if !missed.is_empty() => drop(missed.remove(0)),
            (Defect::RepeatsLast, Packet::Move(_, MovePacket::Arrive(_, positions))) => {
                for (_, position) in positions {
                    position.offset = position.offset.saturating_sub(1);
                }
            }
            _ => {}
        }
    }
}
