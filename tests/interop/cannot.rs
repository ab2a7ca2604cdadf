//! What cannot work where nodes of Go nano take part, and why: all of it, by the numbers of the
//! defects that were recorded of them.

use crate::{cluster::Kinds, node::Kind};

/// A defect of Go nano that a step of these tests meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Defect {
    /// 11: a gate does not tell its client that a request failed.
    NoErrorReplies,
    /// 13: a master accepts no member while another is dead.
    DeadMemberBlocksJoins,
    /// 14: a gate that gets a member announced twice keeps it when it has left.
    StaleRoutes,
    /// 15: a session stays bound to a member that has left.
    BoundForEver,
    /// 18: a backend keeps the sessions of a gate that is gone.
    SessionsOutliveTheirGate,
}

impl Defect {
    const ALL: [Self; 5] = [
        Self::NoErrorReplies,
        Self::DeadMemberBlocksJoins,
        Self::StaleRoutes,
        Self::BoundForEver,
        Self::SessionsOutliveTheirGate,
    ];

    fn concerns(
        self,
        Kinds {
            master,
            gate,
            backend,
        }: Kinds,
    ) -> bool {
        match self {
            Self::NoErrorReplies | Self::BoundForEver => gate == Kind::Go,
            Self::DeadMemberBlocksJoins => master == Kind::Go,
            // A master of ours takes the old entry back before it announces a member again.
            Self::StaleRoutes => master == Kind::Go && gate == Kind::Go,
            Self::SessionsOutliveTheirGate => backend == Kind::Go,
        }
    }

    /// All that are to be met in a cluster.
    pub(crate) fn of(kinds: Kinds) -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|defect| defect.concerns(kinds))
            .collect()
    }
}
