//! What masters ask each other, and answer.

/// One run of a master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MasterId {
    pub(crate) address: String,
    pub(crate) incarnation: u64,
}

/// What a master asks the others for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Whether it could be elected. Nothing follows from the answer: a master that was cut off does
    /// not disturb a leader by it.
    Probe,
    /// To be elected in a term.
    Vote,
    /// To lead for the length of a lease, and to reserve numbers for its views.
    Renew,
    /// Nothing: it leads no more, and needs no lease.
    Resign,
}

/// A request of one master to all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRequest {
    pub(crate) purpose: Purpose,
    pub(crate) from: MasterId,
    /// The term of the sender: the number its first view has or would have.
    pub(crate) term: u64,
    /// The last number that the sender may give to a view of this term.
    pub(crate) reserved: u64,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseReply {
    pub(crate) granted: bool,
    /// The highest number that the answering master has seen reserved or promised. Every later term
    /// begins above it.
    pub(crate) floor: u64,
    /// The latest term it has voted or granted a lease in. A leader of an earlier one gets no lease from
    /// it, and begins a new term.
    pub(crate) promised: u64,
}
