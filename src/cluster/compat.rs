//! The transport to basic members, which have no links: messages travel as nano's unary calls.
//!
//! Basic members are the nodes of Go nano. This module holds what is said to them, the reasons, and
//! the workarounds; the rest of the cluster asks [`Member::is_basic`](crate::member::Member) and
//! knows what follows, not why. Rules of Go's client protocol are marked where they apply, in the
//! gate and in the wire format.
//!
//! # What a basic member cannot do, and what follows in `membership`
//!
//! - It has no incarnation, so a restart looks like the same member. A registration always replaces
//!   the entry, an announcement always wins (`table`), and a registration that arrives late is taken
//!   for a new one (`updates`).
//! - It appends every join it is sent and removes one entry for every leave, without a look at what
//!   it has. Each announcement must be applied exactly once, and where that is uncertain a leave goes
//!   ahead of the join (`updates::PeerView`).
//! - It cannot be asked what it knows: it sends no digest. One that returns after an eviction is sent
//!   everything that it may have missed (`registry`).
//! - It registers once; afterwards a heartbeat is all it sends. Its interval is that of the clients'
//!   heartbeat, so it is evicted later than members of this crate (`heartbeat`).
//! - It knows no fields that this crate adds to replies: it gets the ones that it knows (`service`).
//!
//! # What a basic master does, and what follows for its members
//!
//! - It takes a heartbeat of a member it does not know, and announces registrations only. A member
//!   that finds the master restarted, or was suspended for as long as an eviction takes, registers
//!   again (`registration`), which doubles its entry on basic members ([`reannounce`]).
//! - It announces to one member after the other and waits for each: announcements are answered at
//!   once. One that cannot be reached fails the registration, after it has been announced to some, so
//!   a failed registration is not repeated at once.
//! - It numbers no views: the directory of users goes by the table alone (`view_status`).
//! - It announces a member of its kind again only if that has restarted (`table`).

// Calls that wait, one in flight for each session.
mod call_queue;
// One node: a `PeerTransport`.
mod peer;
// All of them, as they come and go.
pub(super) mod peers;
// Against duplicate entries in their member tables.
pub(super) mod reannounce;
// The sink of a session whose client is on one of their gates.
pub(super) mod remote;
// The sessions of their clients that this node serves.
mod served;
// The calls that they send.
pub(super) mod service;
