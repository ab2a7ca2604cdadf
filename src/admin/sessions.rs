//! Sessions, as the API shows them.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    client_address::client_address,
    request::{ApiError, Query},
    state::AdminState,
};
use crate::{
    error::{Error, code},
    handle::Location,
    session::{Session, UserId},
};

/// Sessions of one page, unless the query says otherwise, and at most.
const PAGE: i64 = 50;
const MAX_PAGE: i64 = 500;

/// Sessions that one search by address looks at.
const SCAN: usize = 20_000;

/// The parameters of a list.
pub(super) const PARAMETERS: &[&str] = &["limit", "after", "user", "address"];

/// Lists sessions by id: a page, those of a user, or those whose address begins with a text.
///
/// # Errors
/// A parameter is out of its range.
pub(super) fn list(state: &AdminState, query: &Query) -> Result<Value, ApiError> {
    let limit = query.number("limit", PAGE, 1..=MAX_PAGE)? as usize;
    let after = query.number("after", 0, 0..=i64::MAX)?;
    let sessions = state.handle.sessions();
    let total = sessions.count();
    if let Some(user) = query.text("user") {
        // A query has no types: what reads as a number may be a text.
        let number = user.parse::<i64>().ok();
        let by_number = number.map(|number| sessions.find_by_user(number));
        let mut found = by_number.unwrap_or_default();
        found.extend(sessions.find_by_user(user));
        let found: Vec<_> = found
            .iter()
            .take(limit)
            .map(|session| summary(state, session))
            .collect();
        return Ok(json!({"sessions": found, "next": null, "total": total}));
    }
    let address = query.text("address").unwrap_or_default();
    let scan = if address.is_empty() { limit } else { SCAN };
    let ids = sessions.ids(after, scan);
    let mut next = (ids.len() == scan).then(|| ids.last().copied()).flatten();
    let mut found = Vec::new();
    for id in ids {
        let Some(session) = sessions.find(id) else {
            continue;
        };
        let text = || session.remote_addr().map(client_address);
        if address.is_empty() || text().is_some_and(|text| text.starts_with(address)) {
            found.push(summary(state, &session));
        }
        if found.len() == limit {
            next = Some(id);
            break;
        }
    }
    Ok(json!({"sessions": found, "next": next, "total": total}))
}

/// The parameters of a search in the whole cluster.
pub(super) const WANTED: &[&str] = &["user"];

/// Where the sessions of a user are, at all gates.
///
/// # Errors
/// There is no user in the query, or a node could not be asked when no other has the user.
pub(super) async fn located(state: &AdminState, query: &Query) -> Result<Value, ApiError> {
    let missing = || ApiError::bad_request("the parameter user is missing");
    let user = query.text("user").ok_or_else(missing)?;
    // A query has no types: what reads as a number may be a text.
    let by_number = async {
        match user.parse::<i64>() {
            Ok(number) => locate(state, &number.into()).await,
            Err(_) => Ok(Vec::new()),
        }
    };
    // At a time: a node that hangs may be asked for both.
    let by_text = UserId::from(user);
    let (by_number, by_text) = tokio::join!(by_number, locate(state, &by_text));
    let found = match (by_number, by_text) {
        (Ok(mut found), Ok(more)) => {
            found.extend(more);
            found
        }
        // What is found counts.
        (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => found,
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let found = found.into_iter().map(|Location { gate, session }| {
        let is_here = state
            .handle
            .session(session)
            .is_some_and(|it| !it.inner().remote);
        json!({"gate": gate, "session": session, "here": is_here})
    });
    Ok(json!({"sessions": found.collect::<Vec<_>>()}))
}

/// # Errors
/// A node could not be asked when no other has the user.
pub(super) async fn locate(state: &AdminState, user: &UserId) -> Result<Vec<Location>, ApiError> {
    match state.handle.user(user.clone()).locate().await {
        // No user has an illegal id.
        Err(error) if error.code() == code::BAD_REQUEST => Ok(Vec::new()),
        found => found.map_err(not_asked),
    }
}

/// The error when a node does not answer.
pub(super) fn not_asked(error: Error) -> ApiError {
    ApiError::unavailable(error.expose().message())
}

/// The sessions whose clients send most.
pub(super) fn busiest(state: &AdminState) -> Value {
    let sessions = state.handle.sessions();
    let rates = state.busiest.count(sessions, Instant::now());
    let busy = rates.sessions.iter().filter_map(|(id, rate)| {
        let mut report = summary(state, &sessions.find(*id)?);
        report["messages_per_second"] = json!(rate);
        Some(report)
    });
    json!({
        "seconds": rates.over.as_secs_f64(),
        "sending": rates.sending,
        "sessions": busy.collect::<Vec<_>>(),
    })
}

/// One session, with its gate, groups and bindings.
///
/// # Errors
/// This node has no such session.
pub(super) fn inspect(state: &AdminState, id: &str) -> Result<Value, ApiError> {
    let session = find(state, id)?;
    let inner = session.inner();
    let mut report = summary(state, &session);
    let gate = inner.remote.then(|| session.sink().gate_address());
    report["gate"] = json!(gate.flatten().as_deref());
    let bindings = inner.bindings.list().into_iter();
    report["bindings"] = bindings
        .map(|(service, address)| (service, json!(address)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    report["groups"] = json!(inner.close_state.groups());
    Ok(report)
}

/// Finds a session by the id in a path.
///
/// # Errors
/// The id is no number, or this node has no such session.
pub(super) fn find(state: &AdminState, id: &str) -> Result<Session, ApiError> {
    let number = id
        .parse()
        .map_err(|_| ApiError::bad_request("the id of a session is a whole number"))?;
    let session = state.handle.session(number);
    session.ok_or_else(|| ApiError::not_found(format!("this node has no session {number}")))
}

fn summary(state: &AdminState, session: &Session) -> Value {
    let unsent = session.sink().unsent();
    let traffic = session.sink().traffic();
    let received = session.inner().messages.load(Ordering::Relaxed);
    json!({
        "id": session.id(),
        "user": session.user(),
        "address": session.remote_addr().map(client_address),
        "client": if session.inner().remote { "remote" } else { "local" },
        "messages_received": received,
        "bytes_received": traffic.map(|[bytes, ..]| bytes),
        "messages_sent": traffic.map(|[_, packets, _]| packets),
        "bytes_sent": traffic.map(|[.., bytes]| bytes),
        "messages_per_second": state.busiest.rate(session.id(), Instant::now()),
        "queue_bytes": unsent.map(|(bytes, _)| bytes),
        "requests_in_flight": unsent.map(|(_, requests)| requests),
    })
}
