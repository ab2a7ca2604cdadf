//! Defects that the simulation must find: each breaks one rule of the migration.

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    /// The next gate has received one packet more than the former one.
    CountsOneMore,
    /// The next gate sends again from one packet too late.
    ReplaysFromTooLate,
    /// The former gate keeps the session after it has handed it over.
    AnswersOn,
    /// Requests in flight do not move along.
    DropsRequests,
    /// The nodes that serve the session do not hold it.
    HoldsNothing,
    /// What has waited at a node is dropped when the next gate attaches it.
    DropsHeld,
    /// A call that was not answered counts as refused.
    SilenceIsRefusal,
    /// A call that was not answered counts as refused when the next gate has left.
    TakesBack,
    /// The next incarnation of a gate says no for the one before.
    RefusesForAnother,
    /// A repeated call revives a session that has ended.
    Revives,
    /// A client may return while its session is about to move.
    AdmitsWhileMoving,
    /// A close while the session moves is forgotten.
    ForgetsClose,
    /// A close is looked for once, before the session has left the former gate.
    LooksOnce,
    /// A close of a session that has moved asks the next gate alone.
    AsksNoOthers,
    /// Each close of a session that has moved asks the other gates.
    AsksOthersAgain,
    /// A node that the next gate has not attached keeps the session for the former gate.
    LeavesHeld,
    /// The former gate forgets where the session has gone, and that it was there.
    ForgetsWhere,
}

/// Each, and a seed that is not far before the first that shows it.
pub(super) const ALL_DEFECTS: [(Defect, u64); 17] = [
    (Defect::CountsOneMore, 0),
    (Defect::ReplaysFromTooLate, 0),
    (Defect::AnswersOn, 0),
    (Defect::DropsRequests, 0),
    (Defect::HoldsNothing, 0),
    (Defect::DropsHeld, 0),
    (Defect::SilenceIsRefusal, 0),
    (Defect::TakesBack, 0),
    (Defect::RefusesForAnother, 670),
    (Defect::Revives, 0),
    (Defect::AdmitsWhileMoving, 0),
    (Defect::ForgetsClose, 0),
    (Defect::LooksOnce, 885),
    (Defect::AsksNoOthers, 5_140),
    (Defect::AsksOthersAgain, 290),
    (Defect::LeavesHeld, 0),
    (Defect::ForgetsWhere, 0),
];
