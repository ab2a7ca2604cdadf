//! Which member a message goes to.

pub(super) mod balance;
pub(super) mod router;
