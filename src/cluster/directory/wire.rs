//! The directory's messages as they travel: `proto/players.proto`.

use std::{collections::HashMap, sync::Arc};

use super::{
    message::{
        GateReply, GateRequest, Holding, Located, Notice, OwnerReply, OwnerRequest, Place, Policy,
        Replaced,
    },
    view::NodeId,
};
use crate::{
    cluster::{
        players::{
            self as proto, ClaimReply, ClaimRequest, Claimant, CompareReply, CompareRequest,
            DirectoryNotice, LocateReply, LocatedUser, RecoverReply, RecoverRequest, SlotSum,
            StepDownReply, StepDownRequest, UserPlace,
        },
        user_ids::user,
    },
    error::Result,
    session::UserId,
};

/// The incarnations of the node that sends a message, and of the one it is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs {
    pub(super) from: u64,
    pub(super) to: u64,
}

pub(super) fn claim(runs: Runs, user: &UserId, session: i64, policy: Policy) -> ClaimRequest {
    ClaimRequest {
        from: runs.from,
        to: runs.to,
        user: Some(user.into()),
        session,
        reject: policy == Policy::Reject,
    }
}

/// # Errors
/// A user id that is illegal.
pub(super) fn claim_request(request: &ClaimRequest) -> Result<OwnerRequest> {
    Ok(OwnerRequest::Claim {
        user: user(request.user.as_ref())?,
        session: request.session,
        policy: match request.reject {
            true => Policy::Reject,
            false => Policy::Replace,
        },
    })
}

pub(super) fn claim_reply(reply: &OwnerReply) -> ClaimReply {
    match reply {
        OwnerReply::Granted {
            view,
            claim,
            replaced,
            late,
        } => ClaimReply {
            granted: true,
            view: *view,
            claim: *claim,
            replaced: *replaced,
            late: *late,
            ..ClaimReply::default()
        },
        OwnerReply::Refused => ClaimReply {
            refused: true,
            ..ClaimReply::default()
        },
        OwnerReply::Compared(_) | OwnerReply::Retry => ClaimReply::default(),
    }
}

pub(super) fn claimed(reply: &ClaimReply) -> OwnerReply {
    match (reply.granted, reply.refused) {
        (true, _) => OwnerReply::Granted {
            view: reply.view,
            claim: reply.claim,
            replaced: reply.replaced,
            late: reply.late,
        },
        (false, true) => OwnerReply::Refused,
        (false, false) => OwnerReply::Retry,
    }
}

pub(super) fn compare(runs: Runs, sums: &[(u16, u64)]) -> CompareRequest {
    let sum = |(slot, sum): &(u16, u64)| SlotSum {
        slot: u32::from(*slot),
        sum: *sum,
    };
    CompareRequest {
        from: runs.from,
        to: runs.to,
        sums: sums.iter().map(sum).collect(),
    }
}

pub(super) fn compare_request(request: &CompareRequest) -> OwnerRequest {
    let sums = request.sums.iter();
    let sums = sums.filter_map(|sum| Some((u16::try_from(sum.slot).ok()?, sum.sum)));
    OwnerRequest::Compare(sums.collect())
}

pub(super) fn compare_reply(reply: &OwnerReply) -> CompareReply {
    let OwnerReply::Compared(equal) = reply else {
        return CompareReply::default();
    };
    CompareReply {
        equal: equal.iter().map(|slot| u32::from(*slot)).collect(),
    }
}

pub(super) fn compared(reply: &CompareReply) -> OwnerReply {
    OwnerReply::Compared(slots(&reply.equal))
}

pub(super) fn notice(runs: Runs, notice: &Notice) -> DirectoryNotice {
    let mut message = DirectoryNotice {
        from: runs.from,
        to: runs.to,
        ..DirectoryNotice::default()
    };
    match notice {
        Notice::Bound(holdings) => message.bound = holdings.iter().map(holding).collect(),
        Notice::Released(holdings) => message.released = holdings.iter().map(holding).collect(),
        Notice::Leaving(holdings) => {
            message.leaving = true;
            message.left = holdings.iter().map(holding).collect();
        }
    }
    message
}

/// # Errors
/// A user id that is illegal.
pub(super) fn notices(message: &DirectoryNotice) -> Result<Vec<Notice>> {
    let mut notices = Vec::new();
    if !message.bound.is_empty() {
        notices.push(Notice::Bound(holdings(&message.bound)?));
    }
    if !message.released.is_empty() {
        notices.push(Notice::Released(holdings(&message.released)?));
    }
    if message.leaving {
        notices.push(Notice::Leaving(holdings(&message.left)?));
    }
    Ok(notices)
}

pub(super) fn step_down(
    runs: Runs,
    (user, session): (&UserId, i64),
    ask: bool,
    claimant: Option<&Place>,
    view: u64,
) -> StepDownRequest {
    StepDownRequest {
        from: runs.from,
        to: runs.to,
        user: Some(user.into()),
        session,
        ask,
        claimant: claimant.map(claimant_of),
        view,
    }
}

/// # Errors
/// A user id that is illegal.
pub(super) fn step_down_request(request: &StepDownRequest) -> Result<GateRequest> {
    Ok(GateRequest::StepDown {
        user: user(request.user.as_ref())?,
        session: request.session,
        ask: request.ask,
        claimant: request.claimant.as_ref().map(place),
        view: request.view,
    })
}

pub(super) fn step_down_reply(reply: &GateReply) -> StepDownReply {
    match reply {
        GateReply::SteppedDown { claimant, late } => StepDownReply {
            claimant: claimant.as_ref().map(claimant_of),
            late: *late,
            ..StepDownReply::default()
        },
        GateReply::Stale => StepDownReply {
            stale: true,
            ..StepDownReply::default()
        },
        GateReply::Lives | GateReply::Holdings { .. } => StepDownReply {
            lives: true,
            ..StepDownReply::default()
        },
    }
}

pub(super) fn stepped_down(reply: &StepDownReply) -> GateReply {
    match (reply.lives, reply.stale) {
        (_, true) => GateReply::Stale,
        (true, false) => GateReply::Lives,
        (false, false) => GateReply::SteppedDown {
            claimant: reply.claimant.as_ref().map(place),
            late: reply.late,
        },
    }
}

pub(super) fn recover(runs: Runs, view: u64, slots: &[u16]) -> RecoverRequest {
    RecoverRequest {
        from: runs.from,
        to: runs.to,
        view,
        slots: slots.iter().map(|slot| u32::from(*slot)).collect(),
    }
}

pub(super) fn recover_request(request: &RecoverRequest) -> GateRequest {
    GateRequest::Recover {
        view: request.view,
        slots: slots(&request.slots),
    }
}

pub(super) fn recover_reply(reply: &GateReply) -> RecoverReply {
    match reply {
        GateReply::Holdings { held, replaced } => RecoverReply {
            stale: false,
            holdings: held.iter().map(holding).collect(),
            replaced: replaced.iter().map(made_way).collect(),
        },
        _ => RecoverReply {
            stale: true,
            ..RecoverReply::default()
        },
    }
}

/// # Errors
/// A user id that is illegal.
pub(super) fn recovered(reply: &RecoverReply) -> Result<GateReply> {
    Ok(match reply.stale {
        true => GateReply::Stale,
        false => GateReply::Holdings {
            held: holdings(&reply.holdings)?,
            replaced: reply.replaced.iter().map(replaced).collect::<Result<_>>()?,
        },
    })
}

/// The reply to a node that looks for users.
pub(super) fn located(found: Vec<Option<Located>>) -> LocateReply {
    let (mut gates, mut numbers) = (Vec::new(), HashMap::new());
    let mut number = |gate: &Arc<str>| {
        *numbers.entry(gate.clone()).or_insert_with(|| {
            gates.push(gate.as_ref().to_owned());
            gates.len() as u32 - 1
        })
    };
    let user = |found: Option<Located>| LocatedUser {
        known: found.is_some(),
        alone: found.as_ref().is_some_and(|found| found.alone),
        places: found
            .into_iter()
            .flat_map(|found| found.places)
            .map(|place| UserPlace {
                gate: number(&place.gate.address),
                session: place.session,
            })
            .collect(),
    };
    let users = found.into_iter().map(user).collect();
    LocateReply { users, gates }
}

fn holding(holding: &Holding) -> proto::Holding {
    proto::Holding {
        user: Some((&holding.user).into()),
        session: holding.session,
        claim: holding.claim,
        closing: holding.closing,
    }
}

fn holdings(holdings: &[proto::Holding]) -> Result<Vec<Holding>> {
    let read = |holding: &proto::Holding| {
        Ok(Holding {
            user: user(holding.user.as_ref())?,
            session: holding.session,
            claim: holding.claim,
            closing: holding.closing,
        })
    };
    holdings.iter().map(read).collect()
}

fn claimant_of(place: &Place) -> Claimant {
    Claimant {
        address: place.gate.address.as_ref().to_owned(),
        incarnation: place.gate.incarnation,
        session: place.session,
    }
}

fn place(claimant: &Claimant) -> Place {
    Place {
        gate: NodeId {
            address: claimant.address.as_str().into(),
            incarnation: claimant.incarnation,
        },
        session: claimant.session,
    }
}

fn made_way(replaced: &Replaced) -> proto::Replaced {
    proto::Replaced {
        user: Some((&replaced.user).into()),
        claimant: Some(claimant_of(&replaced.claimant)),
        late: replaced.late,
    }
}

fn replaced(replaced: &proto::Replaced) -> Result<Replaced> {
    Ok(Replaced {
        user: user(replaced.user.as_ref())?,
        claimant: place(&replaced.claimant.clone().unwrap_or_default()),
        late: replaced.late,
    })
}

fn slots(slots: &[u32]) -> Vec<u16> {
    let slots = slots.iter();
    slots.filter_map(|slot| u16::try_from(*slot).ok()).collect()
}
