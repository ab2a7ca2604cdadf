//! What an operator may change: a closed list. Each action is logged with the peer that asked, as a
//! warning: a filter that an operator has set for the sake of quiet lets it through.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tracing::warn;

use super::{reports, request::ApiError, sessions, state::AdminState};
use crate::{
    error::Error,
    net::network::Network,
    session::{CloseReason, UserId},
};

/// The longest reason of a kick, and the longest log filter, in bytes.
const MAX_REASON: usize = 255;
const MAX_FILTER: usize = 4096;

/// The longest drain, in seconds: a week.
const MAX_DRAIN: u64 = 7 * 24 * 60 * 60;

/// The most networks of one request.
const MAX_NETWORKS: usize = 1000;

/// What an action gets: the peer that asks, the parameter of the path, and the body.
pub(super) struct Request<'a> {
    pub(super) peer: SocketAddr,
    pub(super) parameter: &'a str,
    pub(super) body: &'a [u8],
}

type Outcome = Result<Value, ApiError>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    #[serde(default = "by_operator")]
    reason: String,
}

fn by_operator() -> String {
    "kicked by an operator".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KickUser {
    user: UserId,
    #[serde(default = "by_operator")]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogFilter {
    filter: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Networks {
    networks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    /// How long players may stay; 0 stops the node at once.
    #[serde(default)]
    seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Kicks one session.
pub(super) fn kick_session(state: &AdminState, request: &Request<'_>) -> Outcome {
    let Kick { reason } = parse(request.body)?;
    check_length("reason", &reason, MAX_REASON)?;
    let session = sessions::find(state, request.parameter)?;
    warn!(peer = %request.peer, session = session.id(), user = session.logged_user(), reason, "admin: session kicked");
    session.kick(reason);
    Ok(json!({"kicked": 1}))
}

/// Kicks the sessions of a user, at all gates.
pub(super) async fn kick_user(state: &AdminState, request: &Request<'_>) -> Outcome {
    let KickUser { user, reason } = parse(request.body)?;
    check_length("reason", &reason, MAX_REASON)?;
    let sessions = sessions::locate(state, &user).await?.len();
    let kicked = match sessions {
        0 => false,
        _ => {
            warn!(peer = %request.peer, user = user.logged(), sessions, reason, "admin: user kicked");
            let user = state.handle.user(user.clone());
            user.kick(reason).await.map_err(sessions::not_asked)?
        }
    };
    match kicked {
        true => Ok(json!({"kicked": sessions})),
        false => Err(ApiError::not_found(format!(
            "no node has a session of the user {user}"
        ))),
    }
}

/// Drains the node for some time, and then stops it in order.
pub(super) fn drain(state: &AdminState, request: &Request<'_>) -> Outcome {
    let Drain { seconds } = parse(request.body)?;
    if seconds > MAX_DRAIN {
        let message = format!("seconds must be at most {MAX_DRAIN}");
        return Err(ApiError::bad_request(message));
    }
    warn!(peer = %request.peer, seconds, "admin: node drained");
    match seconds {
        0 => state.handle.shutdown(),
        seconds => state.handle.drain(Duration::from_secs(seconds)),
    }
    Ok(json!({"draining": true}))
}

/// Reads the configuration and the certificates again.
pub(super) async fn reload(state: &AdminState, request: &Request<'_>) -> Outcome {
    let Nothing {} = parse(request.body)?;
    if !state.handle.can_reload() {
        return Err(ApiError::unsupported());
    }
    let reloaded = state.handle.reload().await.map_err(Error::expose);
    let needs_restart = reloaded.map_err(|error| {
        warn!(peer = %request.peer, %error, "admin: configuration not reloaded, keeping the old one");
        ApiError::bad_request(error.message())
    })?;
    warn!(peer = %request.peer, ?needs_restart, "admin: configuration reloaded");
    Ok(json!({"reloaded": true, "needs_restart": needs_restart}))
}

/// Changes the program's log filter.
pub(super) fn log_filter(state: &AdminState, request: &Request<'_>) -> Outcome {
    let options = &state.log_filter;
    let change = options.change.as_ref().ok_or_else(ApiError::unsupported)?;
    let LogFilter { filter } = parse(request.body)?;
    check_length("filter", &filter, MAX_FILTER)?;
    // Many parsers take it for a filter that lets nothing through.
    if filter.trim().is_empty() {
        let message = "the log filter is empty; to log nothing, give \"off\"";
        return Err(ApiError::bad_request(message));
    }
    let before = options.current();
    change(&filter).map_err(|error| ApiError::bad_request(error.expose().message()))?;
    let current = options.current();
    warn!(peer = %request.peer, filter, before, current, "admin: log filter changed");
    Ok(json!({"filter": filter, "before": before, "current": current}))
}

/// Adds networks to the deny list, which ends the sessions of their clients.
pub(super) fn deny(state: &AdminState, request: &Request<'_>) -> Outcome {
    let networks = networks(request.body)?;
    warn!(peer = %request.peer, ?networks, reason = CloseReason::Denied.label(), "admin: networks denied");
    state.handle.deny_list().add(networks);
    Ok(reports::denied(state))
}

/// Removes networks from the deny list.
pub(super) fn allow(state: &AdminState, request: &Request<'_>) -> Outcome {
    let networks = networks(request.body)?;
    warn!(peer = %request.peer, ?networks, "admin: networks allowed");
    state.handle.deny_list().remove(networks);
    Ok(reports::denied(state))
}

fn networks(body: &[u8]) -> Result<Vec<Network>, ApiError> {
    let Networks { networks } = parse(body)?;
    if !(1..=MAX_NETWORKS).contains(&networks.len()) {
        let message = format!("networks must have 1 to {MAX_NETWORKS} entries");
        return Err(ApiError::bad_request(message));
    }
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            ApiError::bad_request(format!("{text:?} is not a network such as 192.0.2.0/24"))
        })
    };
    networks.iter().map(parse).collect()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // An array would do for a structure: `[]` for a drain without seconds, which stops the node.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::bad_request("the body must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let key = error.path().to_string();
        match key.as_str() {
            // Of the whole body, or of JSON that is not valid.
            "." | "?" => error.into_inner().to_string(),
            key => format!("{key}: {}", error.into_inner()),
        }
    });
    let ended = parsed.and_then(|parsed| json.end().map(|()| parsed).map_err(|it| it.to_string()));
    ended.map_err(|error| ApiError::bad_request(format!("the body is not valid: {error}")))
}

fn check_length(name: &str, text: &str, limit: usize) -> Result<(), ApiError> {
    match text.len() <= limit {
        true => Ok(()),
        false => Err(ApiError::bad_request(format!(
            "{name} has more than {limit} bytes"
        ))),
    }
}
