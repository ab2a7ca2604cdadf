//! Defects that the simulation must find: each breaks one rule of the protocol on all nodes.

use super::{
    network::{Message, Node},
    node::Process,
    world::World,
};
use crate::cluster::directory::{
    message::{GateReply, Holding, Notice, OwnerReply, OwnerRequest, Policy},
    view::NodeId,
};

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    /// An owner serves a slot before the gates have told what they have.
    ServesEarly,
    /// An owner keeps its slots although it has missed views.
    KeepsSlotsOverViews,
    /// A gate accepts grants of earlier views.
    AcceptsStaleGrants,
    /// The lease of a gate goes on after it may have been evicted.
    LongLease,
    /// A master that has started states views at once.
    StatesViewsAtOnce,
    /// An owner that learns of the end of a session forgets all sessions of the user.
    ReleasesAll,
    /// Nodes take what was meant for their former runs, also answers.
    TakesForFormerRun,
    /// A gate says that a session has ended while its close callbacks run.
    SkipsCallbacks,
    /// A gate does not say that it has ended a session for a login.
    ForgetsReplaced,
    /// A gate that is asked says of each session that it lives.
    SaysAllLive,
    /// Gates do not compare what they have with the owners.
    NeverCompares,
    /// A gate that leaves does not name its sessions to their next owners.
    NamesNoSessions,
}

/// All of them, with the seed from which they are looked for.
pub(super) const ALL: [(Defect, u64); 12] = [
    (Defect::ServesEarly, 0),
    (Defect::KeepsSlotsOverViews, 40),
    (Defect::AcceptsStaleGrants, 0),
    (Defect::LongLease, 160),
    (Defect::StatesViewsAtOnce, 30),
    (Defect::ReleasesAll, 0),
    (Defect::TakesForFormerRun, 180),
    (Defect::SkipsCallbacks, 0),
    (Defect::ForgetsReplaced, 0),
    (Defect::SaysAllLive, 30),
    (Defect::NeverCompares, 80),
    (Defect::NamesNoSessions, 0),
];

impl World {
    pub(super) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// Makes a message of the directory what nodes with the defect send, or take it for.
    pub(super) fn distort(&self, node: Node, message: &mut Message) {
        let Some(defect) = self.defect else { return };
        if defect == Defect::TakesForFormerRun
            && let Some(running) = &self.nodes[node]
        {
            take_for_former_run(running, message);
        }
        match (defect, message) {
            (
                Defect::AcceptsStaleGrants,
                Message::OwnerReply {
                    reply: Some(OwnerReply::Granted { view, .. }),
                    ..
                },
            ) => *view = u64::MAX,
            (
                Defect::ForgetsReplaced,
                Message::GateReply {
                    reply: Some(reply), ..
                },
            ) => match reply {
                GateReply::SteppedDown { claimant, .. } => *claimant = None,
                GateReply::Holdings { replaced, .. } => replaced.clear(),
                GateReply::Lives | GateReply::Stale => {}
            },
            (
                Defect::SaysAllLive,
                Message::GateReply {
                    reply: Some(reply @ GateReply::SteppedDown { .. }),
                    ..
                },
            ) if self.policy == Policy::Reject => *reply = GateReply::Lives,
            (
                Defect::NeverCompares,
                Message::OwnerCall {
                    request: OwnerRequest::Compare(sums),
                    ..
                },
            ) => sums.clear(),
            (
                Defect::NamesNoSessions,
                Message::Notice {
                    notice: Notice::Leaving(holdings),
                    ..
                },
            ) => holdings.clear(),
            _ => {}
        }
    }

    /// What an owner that forgets too much takes for released.
    pub(super) fn released_too(&self, node: Node, notice: &Notice) -> Vec<(NodeId, Notice)> {
        let (Notice::Released(holdings), Some(running)) = (notice, &self.nodes[node]) else {
            return Vec::new();
        };
        let known = running.owner.all().into_iter();
        let of_user = known.filter(|(user, _)| holdings.iter().any(|it| it.user == *user));
        let released = of_user.map(|(user, place)| {
            let holding = Holding {
                user,
                session: place.session,
                claim: 0,
                closing: false,
            };
            (place.gate, Notice::Released(vec![holding]))
        });
        released.collect()
    }
}

/// Takes a message to a former run as one to this run, and an answer as that to its first call.
fn take_for_former_run(running: &Process, message: &mut Message) {
    let own = &running.id;
    match message {
        Message::OwnerReply { to, call, .. } if to != own => {
            *call = running.gate.first_call().unwrap_or(*call);
            *to = own.clone();
        }
        Message::GateReply { to, call, .. } if to != own => {
            *call = running.owner.first_call().unwrap_or(*call);
            *to = own.clone();
        }
        Message::OwnerCall { to, .. }
        | Message::GateCall { to, .. }
        | Message::Notice { to, .. } => *to = own.clone(),
        _ => {}
    }
}
