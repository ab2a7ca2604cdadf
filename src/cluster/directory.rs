//! The directory: where a user's sessions are, and who may have a user alone.
//!
//! # States
//!
//! A *gate* is the node that holds a client's connection. It has the truth about its sessions, in
//! [`holdings`]. Users fall into 1024 *slots* by a stable [hash](slots). A slot has one *owner*, the
//! node with the highest rendezvous weight among the nodes of a [`view`]; the master owns slots only
//! if it is alone. The [`owner`] keeps one entry for each session of a user: gate, session, claim.
//! Nothing is written to disk, and nothing is replicated: an owner can always ask the gates.
//!
//! A *view* is one state of the member table. The master numbers its table; a number never comes
//! twice, and never goes back, also when the master restarts, because numbers begin at its
//! incarnation. A member is in view `n` when its table has the digest that the master states for
//! `n`. A master that has just started states none for as long as a member may be silent, so its
//! first view has every node that is alive. Until a node has a numbered view, its table is its view,
//! with the number 0.
//!
//! A *claim* makes a session the only one of its user. Its number is larger than that of every
//! claim of that user in earlier views, and of every one the owner has heard of.
//!
//! # Messages
//!
//! - Gate to owner: `Claim` (granted, refused, or try again), `Compare`, and the notices `Bound`,
//!   `Released`, `Leaving`. All messages of one gate to one owner keep their order.
//! - Owner to gate: `StepDown` (end this session, answer after its close callbacks or a deadline) and
//!   `Recover` (tell what you have in these slots, and promise to accept no grant of an earlier
//!   view).
//!
//! An owner that gets a slot asks every gate of its view, and grants nothing before all have
//! answered. It asks a gate for a few slots at a time, one question after the other: the answer is made
//! on a thread that serves clients. A node keeps its slots from one view to the next only if the numbers are adjacent: else
//! another node may have owned them in between. Gates that are new in a view, or back, are asked for
//! the slots that are kept.
//!
//! # What holds
//!
//! A session with a claim is *confirmed* from the grant on. It is unconfirmed when the master has
//! not answered its gate for so long that the gate may have been evicted; it goes on all the same,
//! for a master that hangs costs no player the game. It is confirmed again when its gate is in a
//! view and the owner of that view has found no other session of the user.
//!
//! *Two sessions of one user are never both confirmed.* Suppose an owner grants a user to session `b`
//! while `a` is confirmed elsewhere.
//!
//! 1. If the same owner granted or found `a` in an uninterrupted ownership, it has an entry for `a`.
//!    It drops that entry only when the gate of `a` says that the session has ended, or is in the
//!    view no more. In the second case `a` was unconfirmed before.
//! 2. If an earlier owner granted `a`, the new owner has asked all gates of its view. If the gate
//!    had accepted by then, it has told so. If not, it has promised to refuse: the grant has an
//!    earlier view. A gate that is not in the view has no confirmed session, and when it is back it
//!    refuses grants of views before the one the master has told it.
//! 3. If a later owner granted `a`, then the gate of `b` has answered that owner, and refuses this
//!    grant as one of an earlier view; or it is in no later view, and nothing there is confirmed.
//!
//! *No login fails because of a record that no gate confirms.* A gate in the view that does not
//! answer for five or six seconds is waited for no longer: the claim is granted, late, and sessions
//! there that the user has are superseded, not confirmed. An owner that has not heard of the gate's
//! view, because the master has died before, is waited for three seconds; its grant is late, and not
//! confirmed.
//!
//! *A session ends only for a later claim of its user.* Claims whose gate was cut off are compared
//! with what was granted meanwhile when the gate is back; the earlier ones end.
//!
//! # Crashes
//!
//! - *Gate*: its connections end with it. The master evicts it, and owners drop its entries with the
//!   view. Until then a login of its users waits.
//! - *Owner*: the next view gives its slots to others, which ask the gates. Claims wait, and are made
//!   again by their gates. A gate that has ended a session for a claim says so to the next owner. An
//!   owner that is suspended and goes on ends no session: gates refuse it once a later one has asked.
//! - *Master*: views stay as they are, and logins go on. Its successor states no view until silent
//!   members have been missed.
//! - *Lost message*: calls are repeated. A lost notice leaves an entry without a session, or a session
//!   without an entry. A claim that meets such an entry asks the gate, which denies it. Sums of the
//!   slots that have changed, compared after five seconds, find the rest.
//!
//! A gate that leaves in order names its sessions to their next owners, so that logins elsewhere wait
//! for their close callbacks.
//!
//! # Limits
//!
//! Without numbered views, under a basic master or one that has just started, two owners may grant
//! one user while a member joins or leaves. The next change of the table, or the first numbered
//! view, ends one of the two sessions. Sessions at the gates of basic members are unknown to the
//! directory.

mod checksum;
pub(crate) mod driver;
pub(crate) mod follow;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
pub(crate) mod gauges;
pub(crate) mod holdings;
pub(crate) mod message;
mod owner;
mod packed_set;
pub(crate) mod service;
#[cfg(test)]
mod simulation;
mod slots;
#[cfg(test)]
mod tests;
pub(crate) mod view;
mod wire;
