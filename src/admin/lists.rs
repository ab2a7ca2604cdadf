//! Users, groups and channels of the node, as the API shows them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    request::{ApiError, Query},
    state::AdminState,
};
use crate::session::UserId;

/// Entries of one page, unless the query says otherwise, and at most.
const PAGE: i64 = 50;
const MAX_PAGE: i64 = 500;

/// Sessions whose groups are listed.
const SCAN: usize = 100_000;

/// How long the task of the channels may take to answer.
const CHANNELS: Duration = Duration::from_secs(2);

/// The parameters of a list.
pub(super) const PARAMETERS: &[&str] = &["limit", "after"];

/// Lists users with a session on this node, numbers before texts.
///
/// # Errors
/// A parameter is out of its range, or no user.
pub(super) fn users(state: &AdminState, query: &Query) -> Result<Value, ApiError> {
    let limit = limit(query)?;
    let after = query.text("after").filter(|after| !after.is_empty());
    let after: Option<UserId> = match after.map(serde_json::from_str).transpose() {
        Ok(after) => after,
        Err(_) => {
            let message = "after must be a user in JSON, such as 7 or \"ann\"";
            return Err(ApiError::bad_request(message));
        }
    };
    let (users, total) = state.handle.sessions().users(after.as_ref(), limit);
    let next = users.last().filter(|_| users.len() == limit);
    let next = next.map(|(user, _)| json!(user).to_string());
    let users = users.iter();
    let users = users.map(|(user, sessions)| json!({"user": user, "sessions": sessions}));
    Ok(json!({"users": users.collect::<Vec<_>>(), "next": next, "total": total}))
}

/// Lists groups by name, with their members on this node. Groups of one name are one entry.
///
/// # Errors
/// A parameter is out of its range.
pub(super) fn groups(state: &AdminState, query: &Query) -> Result<Value, ApiError> {
    let limit = limit(query)?;
    // Without a parameter the first page, which may begin with the group that has no name.
    let after = query.text("after");
    let sessions = state.handle.sessions();
    let ids = sessions.ids(0, SCAN);
    let complete = ids.len() < SCAN;
    let mut members: BTreeMap<String, usize> = BTreeMap::new();
    for session in ids.into_iter().filter_map(|id| sessions.find(id)) {
        for group in session.inner().close_state.groups() {
            *members.entry(group).or_default() += 1;
        }
    }
    let total = members.len();
    let later = members
        .into_iter()
        .filter(|(group, _)| after.is_none_or(|after| group.as_str() > after));
    let groups: Vec<_> = later.take(limit).collect();
    let next = groups.last().filter(|_| groups.len() == limit);
    let next = next.map(|(group, _)| group.clone());
    let groups = groups.iter();
    let groups = groups.map(|(group, members)| json!({"group": group, "members": members}));
    let groups: Vec<_> = groups.collect();
    Ok(json!({"groups": groups, "next": next, "total": total, "complete": complete}))
}

/// Lists channels with members on this node.
///
/// # Errors
/// A parameter is out of its range, the node has not started, or its channels do not answer.
pub(super) async fn channels(state: &AdminState, query: &Query) -> Result<Value, ApiError> {
    let limit = limit(query)?;
    let after = query.text("after").unwrap_or_default().to_owned();
    let away = || ApiError::unavailable("the channels of this node do not answer");
    let network = state.handle.channel_network().ok_or_else(away)?;
    let page = timeout(CHANNELS, network.list(after, limit)).await;
    let page = page.map_err(|_| away())?.map_err(|_| away())?;
    let next = page.channels.last();
    let next = next.filter(|_| page.channels.len() == limit);
    let next = next.map(|last| &*last.channel);
    let channels = page.channels.iter().map(|report| {
        json!({
            "channel": &*report.channel,
            "members": report.members,
            "owner": report.owner.as_deref(),
            "offset": report.offset,
        })
    });
    let channels: Vec<_> = channels.collect();
    Ok(json!({"channels": channels, "next": next, "total": page.total}))
}

fn limit(query: &Query) -> Result<usize, ApiError> {
    let limit = query.number("limit", PAGE, 1..=MAX_PAGE)?;
    Ok(usize::try_from(limit).unwrap_or_default())
}
