//! Messages as other nodes get them.

use prost::Message;

use crate::cluster::directory::{
    message::{GateReply, GateRequest, Notice, OwnerReply, OwnerRequest},
    wire::{self, Runs},
};

const RUNS: Runs = Runs { from: 1, to: 1 };

/// A message as another node gets it.
fn sent<M: Message + Default>(message: &M) -> M {
    M::decode(&*message.encode_to_vec()).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn owner_request_sent(request: &OwnerRequest) -> OwnerRequest {
    match request {
        OwnerRequest::Claim {
            user,
            session,
            policy,
        } => {
            let claim = sent(&wire::claim(RUNS, user, *session, *policy));
            wire::claim_request(&claim).unwrap_or_else(|error| panic!("{error}"))
        }
        OwnerRequest::Compare(sums) => wire::compare_request(&sent(&wire::compare(RUNS, sums))),
    }
}

pub(super) fn gate_request_sent(request: &GateRequest) -> GateRequest {
    match request {
        GateRequest::StepDown {
            view,
            user,
            session,
            ask,
            claimant,
        } => {
            let step = wire::step_down(RUNS, (user, *session), *ask, claimant.as_ref(), *view);
            wire::step_down_request(&sent(&step)).unwrap_or_else(|error| panic!("{error}"))
        }
        GateRequest::Recover { view, slots } => {
            wire::recover_request(&sent(&wire::recover(RUNS, *view, slots)))
        }
    }
}

pub(super) fn owner_reply_sent(reply: &OwnerReply) -> OwnerReply {
    match reply {
        OwnerReply::Compared(_) => wire::compared(&sent(&wire::compare_reply(reply))),
        _ => wire::claimed(&sent(&wire::claim_reply(reply))),
    }
}

/// The two kinds of calls have replies of their own; a stale one may be either.
pub(super) fn gate_reply_sent(reply: &GateReply) -> GateReply {
    match reply {
        GateReply::Holdings { .. } => wire::recovered(&sent(&wire::recover_reply(reply)))
            .unwrap_or_else(|error| panic!("{error}")),
        _ => wire::stepped_down(&sent(&wire::step_down_reply(reply))),
    }
}

pub(super) fn notice_sent(notice: &Notice) -> Option<Vec<Notice>> {
    wire::notices(&sent(&wire::notice(RUNS, notice))).ok()
}
