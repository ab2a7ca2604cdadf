//! What the control plane tells the data plane.

use std::sync::Arc;

use crate::member::Member;

/// Learns of every change of the member table, in the table's order.
///
/// Both methods are called after the table has been published, and while the table's lock is held:
/// they must not wait.
pub(crate) trait MembershipSubscriber: Send + Sync {
    /// A member joined.
    fn on_member_added(self: Arc<Self>, member: &Member);

    /// A member left, or another incarnation is about to take its place.
    fn on_member_removed(self: Arc<Self>, member: &Member);
}
