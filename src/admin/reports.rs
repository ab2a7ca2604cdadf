//! The node, its members, schedulers and queues, as the API shows them.

use std::process;

use serde_json::{Value, json};

use super::{
    request::{ApiError, Query},
    state::AdminState,
};
use crate::{cluster::PeerReport, member::Member, scheduler::SchedulerStatus};

/// Schedulers of one answer, unless the query says otherwise, and at most.
const SCHEDULERS: i64 = 50;
const MAX_SCHEDULERS: i64 = 1000;

/// Sessions whose send queues are summed up.
const SCAN: usize = 100_000;

/// The node itself.
pub(super) fn node(state: &AdminState) -> Value {
    let handle = &state.handle;
    let member = handle.member();
    let (all, local) = (handle.sessions().count(), handle.sessions().local_count());
    let missing = handle.missing();
    json!({
        "name": state.name,
        "version": given(&state.version),
        "library_version": env!("CARGO_PKG_VERSION"),
        "process": process::id(),
        "role": own_role(state),
        "address": member.map(Member::address),
        "label": member.map(Member::label),
        "incarnation": member.map(Member::incarnation),
        "metadata": member.map(Member::metadata),
        "services": services(state),
        "listeners": state.listeners().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "admin": handle.admin_address().map(|address| address.to_string()),
        "uptime_seconds": state.started.elapsed().as_secs_f64(),
        "ready": missing.is_empty(),
        "missing": missing,
        "sessions": {"local": local, "remote": all.saturating_sub(local)},
        "load": state.load(),
        "members": handle.members().len() + usize::from(member.is_some()),
        "drain_seconds": handle.lifecycle().stop_times().drain.map(|it| it.as_secs()),
        "log_filter": state.log_filter.current(),
        "actions": {
            "token": state.access.has_token(),
            "log_filter": state.log_filter.change.is_some(),
            "warnings": state.warnings.is_some(),
        },
    })
}

/// All members of the cluster, this node first; empty for a standalone node.
pub(super) fn members(state: &AdminState) -> Value {
    let peers = state.peers();
    let own = state.handle.member().map(|own| {
        let mut report = member(own, own_role(state), None);
        report["self"] = json!(true);
        report["admin"] = json!(state.handle.admin_address().map(|it| it.to_string()));
        report
    });
    let others = state.handle.members();
    let others = others.iter().map(|other| {
        let masters = &state.masters.others;
        let role = match masters.iter().any(|master| master == other.address()) {
            true => master_role(state, other.address()),
            false => "member",
        };
        let link = peers.iter().find(|peer| peer.address == other.address());
        member(other, role, link)
    });
    json!({"members": own.into_iter().chain(others).collect::<Vec<_>>()})
}

pub(super) fn own_role(state: &AdminState) -> &'static str {
    match (state.masters.is_master, state.handle.member()) {
        (_, None) => "standalone",
        (true, Some(_)) if state.masters.others.is_empty() => "master",
        (true, Some(own)) => master_role(state, own.address()),
        (false, _) => "member",
    }
}

/// Of several masters one leads, and is the one that this node reports to.
fn master_role(state: &AdminState, address: &str) -> &'static str {
    match state.handle.master() {
        Some(leader) if leader != address => "standby",
        _ => "master",
    }
}

fn services(state: &AdminState) -> Vec<String> {
    let mut services: Vec<_> = state
        .handle
        .routes()
        .iter()
        .filter_map(|route| Some(route.rsplit_once('.')?.0.to_owned()))
        .collect();
    services.dedup();
    services
}

/// Text that is empty where there is none.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn member(member: &Member, role: &str, link: Option<&PeerReport>) -> Value {
    json!({
        "address": member.address(),
        "label": member.label(),
        "version": given(member.version()),
        "role": role,
        "self": false,
        "services": member.services(),
        "metadata": member.metadata(),
        "incarnation": member.incarnation(),
        "started_ms": Some(member.incarnation() / 1000).filter(|ms| *ms != 0),
        "basic": member.is_basic(),
        "admin": given(&member.info().admin),
        "link": link,
    })
}

/// Schedulers: those that a task holds first, then by queue, then by the time their turns took.
///
/// # Errors
/// The limit is out of its range.
pub(super) fn schedulers(state: &AdminState, query: &Query) -> Result<Value, ApiError> {
    let limit = query.number("limit", SCHEDULERS, 1..=MAX_SCHEDULERS)? as usize;
    let mut all = state.handle.pool().schedulers();
    let waiting: usize = all.iter().map(|scheduler| scheduler.waiting).sum();
    let total = all.len();
    all.sort_by_cached_key(|scheduler| {
        let held = scheduler.held.as_ref().map(|held| held.running);
        std::cmp::Reverse((held, scheduler.waiting, scheduler.busy))
    });
    all.truncate(limit);
    let schedulers: Vec<_> = all.iter().map(scheduler).collect();
    Ok(json!({"schedulers": schedulers, "total": total, "waiting": waiting}))
}

fn scheduler(scheduler: &SchedulerStatus) -> Value {
    let held = scheduler.held.as_ref().map(|held| {
        json!({
            "route": held.route.as_deref(),
            "session": held.session,
            "running_ms": held.running.as_millis() as u64,
        })
    });
    let long_tasks = scheduler.long_tasks.iter().map(|task| {
        json!({
            "route": task.route.as_deref(),
            "session": task.session,
            "times": task.times,
            "longest_ms": task.longest.as_millis() as u64,
            "first_ago_ms": task.first.as_millis() as u64,
            "last_ago_ms": task.last.as_millis() as u64,
        })
    });
    json!({
        "name": &*scheduler.name,
        "waiting": scheduler.waiting,
        "capacity": scheduler.capacity,
        "turns": scheduler.turns,
        "busy_seconds": scheduler.busy.as_secs_f64(),
        "longest_turn_ms": scheduler.longest_turn.as_secs_f64() * 1e3,
        "long_tasks": long_tasks.collect::<Vec<_>>(),
        "held": held,
    })
}

/// What waits, by the queue it waits in, and the clients with the fullest send queues.
pub(super) fn queues(state: &AdminState) -> Value {
    let schedulers = state.handle.pool().schedulers();
    let tasks: usize = schedulers.iter().map(|scheduler| scheduler.waiting).sum();
    let sessions = state.handle.sessions();
    let (mut bytes, mut requests, mut fullest) = (0, 0, Vec::new());
    for id in sessions.ids(0, SCAN) {
        let session = sessions.find_local(id);
        let Some((queued, in_flight)) = session.and_then(|it| it.sink().unsent()) else {
            continue;
        };
        bytes += queued;
        requests += in_flight;
        if queued > 0 {
            fullest.push((queued, id));
        }
    }
    fullest.sort_unstable_by(|a, b| b.cmp(a));
    fullest.truncate(10);
    let fullest: Vec<_> = fullest
        .iter()
        .map(|(bytes, session)| json!({"session": session, "bytes": bytes}))
        .collect();
    let peers = state.peers();
    json!({
        "scheduler_tasks": tasks,
        "client_bytes": bytes,
        "client_requests": requests,
        "fullest_clients": fullest,
        "cluster_bytes": peers.iter().map(|peer| peer.queue_bytes).sum::<usize>(),
    })
}

/// The latest warnings.
///
/// # Errors
/// The application offers no warnings, or `after` is out of its range.
pub(super) fn warnings(state: &AdminState, query: &Query) -> Result<Value, ApiError> {
    let log = state.warnings.as_ref().ok_or_else(ApiError::unsupported)?;
    let after = query.number("after", 0, 0..=i64::MAX)?;
    Ok(json!({"warnings": log.after(after.unsigned_abs())}))
}

/// The networks whose clients are refused.
pub(super) fn denied(state: &AdminState) -> Value {
    let networks = state.handle.deny_list().networks();
    let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
    json!({"networks": networks})
}
