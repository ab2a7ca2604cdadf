//! User ids in the messages between nodes.

use crate::{
    cluster::players::UserId,
    error::{Error, Result},
    session,
};

impl From<&session::UserId> for UserId {
    fn from(user: &session::UserId) -> Self {
        let (number, text) = session::UserId::parts(Some(user));
        Self {
            number,
            text: text.to_owned(),
        }
    }
}

/// The user another node means.
///
/// # Errors
/// [`code::BAD_REQUEST`](crate::code::BAD_REQUEST) for none, and for an id that is illegal.
pub(crate) fn user(user: Option<&UserId>) -> Result<session::UserId> {
    user.and_then(|user| session::UserId::of_parts(user.number, &user.text))
        .ok_or_else(|| Error::bad_request("illegal user id"))
}
