//! The directory: where a user's sessions are, and who may have a user alone.
//!
//! The decisions alone, and their simulation: they are built for tests until a driver connects them to
//! the network. Logins go by [`users`](super::users) meanwhile, which asks every gate each time.
//!
//! # States
//!
//! A *gate* is the node that holds a client's connection. It has the truth about its sessions, in
//! [`holdings`]. Users fall into 1024 *slots* by a stable [hash](slots). A slot has one *owner*, the
//! node with the highest rendezvous weight among the nodes of a [`view`]. The [`owner`] keeps one
//! entry for each session of a user: gate, session, claim. Nothing is written to disk, and nothing
//! is replicated: an owner can always ask the gates.
//!
//! A *view* is one state of the member table. The master numbers its table; a number never comes
//! twice, and never goes back, also when the master restarts, because numbers begin at its
//! incarnation. A member is in view `n` when its table has the digest that the master states for
//! `n`. A master that has just started states none for as long as a member may be silent, so its
//! first view has every node that is alive.
//!
//! A *claim* makes a session the only one of its user. Its number is larger than that of every
//! claim of that user before.
//!
//! # Messages
//!
//! - Gate to owner: `Claim` (granted, refused, or try again), `Locate`, and the notices `Bound`,
//!   `Released`, `Sum`, `Leaving`. All messages about one user have one key, so they keep their order.
//! - Owner to gate: `StepDown` (end this session, answer after its close callbacks or a deadline) and
//!   `Recover` (tell what you have in these slots, and promise to accept no grant of an earlier
//!   view).
//!
//! An owner that gets a slot asks every gate of its view, and grants nothing before all have
//! answered. A node keeps its slots from one view to the next only if the numbers are adjacent: else
//! another node may have owned them in between.
//!
//! # Why two sessions never have one user
//!
//! A session is *in force* while its gate has accepted a grant, has not ended the session, and has a
//! valid [`lease`]. Suppose an owner grants a user to session `b` while `a` is in force elsewhere.
//!
//! 1. If the same owner granted `a` in an uninterrupted ownership, it has an entry for `a`. It drops
//!    that entry only when the gate of `a` says that the session has ended, or is in the view no more.
//!    In the second case the lease of `a` had run out before: the gate counts it from when a heartbeat
//!    was sent, the master counts a longer silence from when it arrived.
//! 2. If an earlier owner granted `a`, the new owner has asked all gates of its view. If the gate
//!    had accepted by then, it has told so. If not, it has promised to refuse: the grant has an
//!    earlier view. A gate that is not in the view has no lease, and when it gets one anew it refuses
//!    grants of views before the one it returned to.
//! 3. If a later owner granted `a`, then the gate of `b` has answered that owner, and refuses this
//!    grant as one of an earlier view; or it is in no later view, and has no lease.
//!
//! # Crashes
//!
//! - *Gate*: its connections end with it. The master evicts it, and owners drop its entries with the
//!   view. Until then a login of its users waits.
//! - *Owner*: the next view gives its slots to others, which ask the gates. Claims wait, and are made
//!   again by their gates.
//! - *Master*: views stay as they are, and leases last as long as its address refuses connections,
//!   which proves that no master runs. Its successor states no view until silent members have been
//!   missed.
//! - *Gate cut off from the master*: its lease runs out, and it ends the sessions that have claims.
//!   Clients come back elsewhere. Sessions that are only bound stay.
//! - *Lost message*: calls are repeated. A lost notice leaves an entry without a session, or a session
//!   without an entry. A claim that meets such an entry asks the gate, which denies it: no claim
//!   is refused for a record that no gate confirms. Sums, sent every five seconds, find the rest.
//!
//! A gate that leaves in order gives up its claims, and names its sessions to their next owners, so
//! that logins elsewhere wait for their close callbacks.
//!
//! # Limits
//!
//! Under a Go master there are no views: every number is 0, leases are endless, and uniqueness holds
//! only while no member joins or leaves. Sessions on Go gates are unknown to the directory.

mod checksum;
pub(crate) mod holdings;
pub(crate) mod lease;
pub(crate) mod message;
pub(crate) mod owner;
#[cfg(test)]
mod simulation;
pub(crate) mod slots;
pub(crate) mod view;
