//! What stands out on a node, and on all members: the cluster at a glance, from any of its nodes.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    busiest::LocalRates, client_address::client_address, load::Load, metrics, reports::own_role,
    state::AdminState, timeouts,
};
use crate::{
    cluster::{NodeCall, NodeCaller, NodeService, NodeServices},
    error::{Error, Result, code},
    member::Member,
    metrics as names,
    scheduler::SchedulerStatus,
    session::UserId,
};

const SERVICE: &str = "Admin";
const METHOD: &str = "Summary";
const ROUTE: &str = "Admin.Summary";

/// The time between two counts of the load without requests, so that the first one finds rates.
const LOAD_INTERVAL: Duration = Duration::from_secs(10);

/// How long members may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The least time between two rounds. Requests in between get the answer of the last one.
const INTERVAL: Duration = Duration::from_secs(2);

/// Members that are asked in one round, beside this node.
const MEMBERS: usize = 256;

/// Calls of other nodes that wait for the admin thread. More are refused.
const WAITING: usize = 64;

/// The longest summary that is read, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Entries of each list of a summary.
const LISTED: usize = 5;

/// Routes of requests that are not answered.
const UNANSWERED_ROUTES: usize = 3;

/// A task that runs for longer blocks its scheduler.
const BLOCKED: Duration = Duration::from_secs(1);

/// A task that lately has held its scheduler for so long is named.
const LONG_TASK: Duration = Duration::from_millis(200);

/// A client floods that sends so many times as much as the median of this gate's clients, where at least
/// so many send.
const FLOOD_FACTOR: f64 = 5.0;
const FLOOD_COMPARED: usize = 3;

/// One that sends fewer messages per second does not flood. Fast games send what the player does with each picture: 60.
/// One that is held to 50, a usual limit, is counted with some fewer at times.
const FLOOD_LEAST: f64 = 45.0;

/// One that sends as much floods, whatever others do.
const FLOOD_ALWAYS: f64 = 1000.0;

/// Where fewer clients send, their median may be that of other floods: one that sends so much floods.
const FLOOD_FEW: usize = 5;
const FLOOD_ALONE: f64 = 200.0;

/// The part of the rate limit from which a client is at the limit.
const FLOOD_LIMIT: f64 = 0.9;

/// What stands out on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Summary {
    ready: bool,
    missing: Vec<String>,
    sessions: usize,
    /// Tasks that block their schedulers, the longest first.
    blocked: Vec<Blocked>,
    /// Tasks that have held their schedulers lately, the longest first. Older members do not say.
    #[serde(default)]
    long_tasks: Vec<LongTask>,
    floods: Vec<Flood>,
    /// Links that do not work.
    links: Vec<BadLink>,
    /// Requests per second that no handler answered in time. Older members do not say.
    #[serde(default)]
    unanswered_per_second: f64,
    /// The routes of these requests, those with the most of them first.
    #[serde(default)]
    unanswered_routes: Vec<String>,
    /// Members that this node evicted as the master, and that have not returned, the latest last.
    #[serde(default)]
    lost: Vec<Lost>,
    /// Older members do not say.
    #[serde(default)]
    load: Option<Load>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Blocked {
    scheduler: String,
    route: Option<String>,
    running_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LongTask {
    scheduler: String,
    route: Option<String>,
    times: u64,
    longest_ms: u64,
    first_ago_ms: u64,
    last_ago_ms: u64,
}

/// A client that sends far more than others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flood {
    session: i64,
    user: Option<UserId>,
    address: Option<String>,
    messages_per_second: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct BadLink {
    address: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Lost {
    address: String,
    label: String,
    evicted_ms: u64,
}

impl Summary {
    pub(super) fn of(state: &AdminState) -> Self {
        let missing = state.handle.missing();
        let sessions = state.handle.sessions();
        let schedulers = state.handle.pool().schedulers();
        let rates = state.busiest.count(sessions, Instant::now());
        let limit = state.limits.rate_limit().map(|limit| limit.per_second);
        let floods = floods(&rates.local, limit).filter_map(|(id, messages_per_second)| {
            let session = sessions.find_local(id)?;
            Some(Flood {
                session: id,
                user: session.user(),
                address: session.remote_addr().map(client_address),
                messages_per_second,
            })
        });
        let links = state.peers().into_iter();
        let links = links.filter(|peer| matches!(peer.state, "broken" | "suspect"));
        let links = links.map(|peer| BadLink {
            address: peer.address,
            state: peer.state.to_owned(),
        });
        Self {
            ready: missing.is_empty(),
            missing: missing.into_iter().map(str::to_owned).collect(),
            sessions: sessions.count(),
            blocked: blocked(&schedulers),
            long_tasks: long_tasks(&schedulers),
            floods: floods.take(LISTED).collect(),
            links: links.take(LISTED).collect(),
            unanswered_per_second: state.timeouts.rate(
                state.registry.total(names::REQUESTS_TIMED_OUT),
                Instant::now(),
            ),
            unanswered_routes: state.timed_out.routes(
                Instant::now(),
                timeouts::WINDOW,
                UNANSWERED_ROUTES,
            ),
            lost: lost(state),
            load: Some(state.load()),
        }
    }
}

fn blocked(schedulers: &[SchedulerStatus]) -> Vec<Blocked> {
    let blocked = schedulers.iter().filter_map(|scheduler| {
        let held = scheduler.held.as_ref();
        let held = held.filter(|held| held.running >= BLOCKED)?;
        Some(Blocked {
            scheduler: scheduler.name.to_string(),
            route: held.route.as_deref().map(str::to_owned),
            running_ms: held.running.as_millis() as u64,
        })
    });
    longest(blocked, |blocked| blocked.running_ms)
}

fn long_tasks(schedulers: &[SchedulerStatus]) -> Vec<LongTask> {
    let tasks = schedulers.iter().flat_map(|scheduler| {
        let tasks = scheduler.long_tasks.iter();
        let tasks = tasks.filter(|task| task.longest >= LONG_TASK);
        tasks.map(|task| LongTask {
            scheduler: scheduler.name.to_string(),
            route: task.route.as_deref().map(str::to_owned),
            times: task.times,
            longest_ms: task.longest.as_millis() as u64,
            first_ago_ms: task.first.as_millis() as u64,
            last_ago_ms: task.last.as_millis() as u64,
        })
    });
    longest(tasks, |task| task.longest_ms)
}

fn longest<T>(all: impl Iterator<Item = T>, length: impl Fn(&T) -> u64) -> Vec<T> {
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|one| std::cmp::Reverse(length(one)));
    all.truncate(LISTED);
    all
}

/// The members that this node evicted.
fn lost(state: &AdminState) -> Vec<Lost> {
    let lost = state.handle.membership().lost.list().into_iter();
    let at = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    lost.map(|lost| Lost {
        address: lost.address,
        label: lost.label,
        evicted_ms: at(lost.evicted).as_millis() as u64,
    })
    .collect()
}

/// The sessions of this node's clients that send too much, the busiest first: what too much is, their
/// rate limit says, or a comparison with the others.
fn floods(rates: &LocalRates, limit: Option<f64>) -> impl Iterator<Item = (i64, f64)> {
    let few = rates.sending < FLOOD_FEW;
    let bound = match limit {
        Some(limit) => FLOOD_LEAST.max(FLOOD_LIMIT * limit),
        None if few => FLOOD_ALONE,
        None => FLOOD_ALWAYS,
    };
    let typical = match rates.sending < FLOOD_COMPARED {
        true => FLOOD_ALWAYS,
        false => FLOOD_LEAST.max(FLOOD_FACTOR * rates.median),
    };
    let least = bound.min(typical).min(FLOOD_ALWAYS);
    let sending = rates.sessions.iter().copied();
    sending.filter(move |(_, rate)| *rate >= least)
}

/// Calls of other members' admin servers, which the admin thread answers: sessions are counted for
/// them, which would hold up I/O.
struct SummaryService(mpsc::Sender<NodeCall>);

/// What [`answer`] takes the calls from.
pub(super) type Calls = mpsc::Receiver<NodeCall>;

/// Adds the service that other members' admin servers call.
pub(super) fn offer(services: &NodeServices) -> Calls {
    let (sender, calls) = mpsc::channel(WAITING);
    services.insert(SERVICE, Arc::new(SummaryService(sender)));
    calls
}

impl NodeService for SummaryService {
    fn answer(&self, method: &str, call: NodeCall) {
        if method != METHOD {
            let text = format!("the node has no method {SERVICE}.{method}");
            return call.fail(Error::new(code::UNSUPPORTED, text));
        }
        if let Err(refused) = self.0.try_send(call) {
            let text = "the admin server of the node is busy";
            refused.into_inner().fail(Error::new(code::TOO_MANY, text));
        }
    }
}

/// Answers calls for as long as the node runs.
pub(super) async fn answer(mut calls: Calls, state: Arc<AdminState>) {
    while let Some(call) = calls.recv().await {
        let summary = serde_json::to_string(&Summary::of(&state));
        call.respond(match summary {
            Ok(summary) => Ok(summary.encode_to_vec().into()),
            Err(error) => Err(Error::new(code::INTERNAL, error.to_string())),
        });
    }
}

/// Counts the load, and sets the gauges that are computed, for as long as the node runs.
pub(super) async fn follow_load(state: Arc<AdminState>) {
    loop {
        state.load();
        metrics::update(&state);
        sleep(LOAD_INTERVAL).await;
    }
}

/// What stands out on this node and on all members.
pub(super) async fn cluster(state: &AdminState) -> Value {
    // Held while members are asked, so that one round serves all that wait.
    let mut last = state.last_round.lock().await;
    if let Some((at, report)) = &*last
        && at.elapsed() < INTERVAL
    {
        return report.clone();
    }
    let report = json!({"members": collect(state).await});
    *last = Some((Instant::now(), report.clone()));
    report
}

async fn collect(state: &AdminState) -> Vec<Value> {
    let mut asked = JoinSet::new();
    let members = state.handle.members();
    for (index, member) in members.iter().take(MEMBERS).enumerate() {
        let summary = ask(&state.caller, member.address());
        asked.spawn(async move { (index, summary.await) });
    }
    let own = state.handle.member();
    let mut reports = vec![json!({
        "address": own.map(Member::address),
        "label": own.map(Member::label),
        "role": own_role(state),
        "self": true,
        "summary": Summary::of(state),
        "error": null,
    })];
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    reports.extend(members.iter().zip(answers).map(|(member, (_, answer))| {
        let (summary, error) = match answer {
            Ok(summary) => (Some(summary), None),
            Err(error) => (None, Some(error)),
        };
        json!({
            "address": member.address(),
            "label": member.label(),
            "role": "member",
            "self": false,
            "summary": summary,
            // A node of Go nano, of an older version, or without an admin server says nothing of itself.
            "error": error.filter(|error| error.code() != code::UNSUPPORTED).map(|error| error.to_string()),
        })
    }));
    reports
}

/// Asks one member.
///
/// # Errors
/// [`code::UNSUPPORTED`] if it has no admin server, or those of [`NodeCaller::call`].
fn ask(caller: &NodeCaller, address: &str) -> impl Future<Output = Result<Summary>> + Send + use<> {
    let answer = caller.call::<(), String>(address, 0, ROUTE, &(), TIMEOUT);
    async move { parse(&answer.await?) }
}

/// Reads what another member says, which may be anything.
fn parse(text: &str) -> Result<Summary> {
    if text.len() > MAX_BYTES {
        return Err(Error::new(code::TOO_LARGE, "the summary is too long"));
    }
    let mut summary: Summary = serde_json::from_str(text).map_err(|error| {
        Error::new(code::BAD_REQUEST, "the summary is not valid").with_source(error)
    })?;
    summary.load = summary.load.map(Load::plausible);
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_member_says_nothing_of_its_load_and_a_broken_one_nothing_of_use() {
        let older =
            r#"{"ready":true,"missing":[],"sessions":1,"blocked":[],"floods":[],"links":[]"#;
        assert_eq!(parse(&format!("{older}}}")).unwrap().load, None);
        let load = |load: &str| parse(&format!("{older},\"load\":{load}}}"));
        assert_eq!(load("null").unwrap().load, None);
        for nothing in [
            "{}",
            r#"{"cores":-1,"messages_per_second":1e300,"later":[]}"#,
            r#"{"memory_bytes":18446744073709551615,"clients":9999999999}"#,
        ] {
            assert_eq!(
                load(nothing).unwrap().load,
                Some(Load::default()),
                "{nothing}"
            );
        }
        for broken in [
            "7",
            r#"{"cores":"many"}"#,
            r#"{"clients":-1}"#,
            r#"{"cores":NaN}"#,
        ] {
            assert!(load(broken).is_err(), "{broken}");
        }
    }

    /// How many of the clients with these rates flood.
    fn flooding(rates: &[f64], limit: Option<f64>) -> usize {
        let sessions = rates.iter().copied().enumerate();
        let sessions: Vec<_> = sessions.map(|(id, rate)| (id as i64, rate)).collect();
        floods(&LocalRates::of(&sessions), limit).count()
    }

    #[test]
    fn a_client_floods_that_sends_far_more_than_the_others() {
        let flooding = |rates: &[f64]| flooding(rates, None);
        assert_eq!(flooding(&[]), 0);
        assert_eq!(flooding(&[40.0, 3.0, 3.0]), 0, "little");
        assert_eq!(flooding(&[90.0, 80.0, 70.0, 60.0]), 0, "all do");
        assert_eq!(flooding(&[300.0; 9]), 0, "all do, and many");
        assert_eq!(flooding(&[4000.0; 9]), 9, "very much");
        assert_eq!(flooding(&[2400.0, 300.0, 4.0, 3.0, 3.0]), 2);
        let crowd: Vec<_> = [400.0; 24].into_iter().chain([2.0; 30]).collect();
        assert_eq!(flooding(&crowd), 24, "more than are listed, and not most");
    }

    #[test]
    fn a_client_floods_that_is_alone_or_one_of_few_and_sends_more_than_players_do() {
        let flooding = |rates: &[f64]| flooding(rates, None);
        assert_eq!(flooding(&[400.0]), 1, "alone");
        assert_eq!(flooding(&[400.0, 3.0]), 1, "one of two");
        assert_eq!(flooding(&[400.0, 4.0, 3.0]), 1, "one of three");
        assert_eq!(flooding(&[400.0, 350.0, 3.0]), 2, "two of three");
        for players in [
            &[60.0][..],
            &[120.0],
            &[5.0],
            &[60.0, 60.0],
            &[60.0, 3.0],
            &[128.0, 60.0, 30.0],
        ] {
            assert_eq!(flooding(players), 0, "{players:?} play");
        }
    }

    #[test]
    fn a_client_floods_that_is_at_its_rate_limit() {
        for others in [0, 2, 9] {
            let rates: Vec<_> = std::iter::once(99.0).chain(vec![80.0; others]).collect();
            assert_eq!(flooding(&rates, Some(100.0)), 1, "with {others} others");
            // Where the game allows more, that is normal.
            assert_eq!(flooding(&rates, Some(500.0)), 0);
        }
        assert_eq!(flooding(&[300.0], Some(500.0)), 0);
        assert_eq!(
            flooding(&[49.2, 3.0, 3.0], Some(50.0)),
            1,
            "held to the limit"
        );
        assert_eq!(flooding(&[20.0], Some(20.0)), 0, "so little harms no node");
    }
}
