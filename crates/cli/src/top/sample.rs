//! One look at a node.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use crate::{admin::Admin, failure::Failure};

/// What the API tells at one time.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) node: Value,
    pub(super) members: Value,
    pub(super) queues: Value,
    pub(super) schedulers: Value,
    pub(super) requests: Requests,
    pub(super) routes: BTreeMap<String, Route>,
    pub(super) forwarded: Vec<Forwarded>,
    pub(super) groups: Groups,
    /// `None` where the application offers no warnings.
    pub(super) warnings: Option<Value>,
}

/// What one route has had since the node was started.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    pub(super) handled: u64,
    pub(super) failed: u64,
    /// In seconds; `None` without a message.
    pub(super) queue_p99: Option<f64>,
    pub(super) handler_p50: Option<f64>,
    pub(super) handler_p99: Option<f64>,
}

/// Requests of one route that other members answer, of a sample of those since the node was started.
/// Times are in seconds.
#[derive(Clone, Debug)]
pub(super) struct Forwarded {
    pub(super) route: String,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
}

/// Groups with sessions of this node.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    at: Instant,
    pub(super) total: u64,
    /// Names and members of the first groups by name, the largest first.
    pub(super) groups: Vec<(String, u64)>,
}

/// How long a list of groups is shown: the node looks at all of its sessions for a new one.
const GROUPS_FOR: Duration = Duration::from_secs(5);

/// Requests of this gate's clients that were answered, wherever.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) answered: u64,
    /// In seconds, since the node was started.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) forwarded: u64,
}

impl Sample {
    /// Takes over groups of an earlier look that are new enough.
    ///
    /// # Errors
    /// The node does not answer, or refuses to.
    pub(super) async fn take(admin: &Admin, groups: Option<&Groups>) -> Result<Self, Failure> {
        let warnings = async {
            match admin.get("/api/v1/warnings").await {
                Ok(warnings) => Ok(Some(warnings)),
                Err(Failure::Failed(_)) => Ok(None),
                Err(other) => Err(other),
            }
        };
        let groups = async {
            match groups.filter(|groups| groups.at.elapsed() < GROUPS_FOR) {
                Some(groups) => Ok(groups.clone()),
                None => {
                    let report = admin.get("/api/v1/groups?limit=500").await;
                    report.map(|report| Groups::new(&report))
                }
            }
        };
        let (node, members, queues, schedulers, metrics, routes, groups, warnings) = tokio::try_join!(
            admin.get("/api/v1/node"),
            admin.get("/api/v1/members"),
            admin.get("/api/v1/queues"),
            admin.get("/api/v1/schedulers?limit=10"),
            admin.get("/api/v1/metrics"),
            admin.get("/api/v1/routes"),
            groups,
            warnings,
        )?;
        let list = |name: &str| routes[name].as_array().into_iter().flatten();
        Ok(Self {
            at: Instant::now(),
            node,
            members,
            queues,
            schedulers,
            requests: requests(&metrics),
            routes: list("routes").map(route).collect(),
            forwarded: list("forwarded").filter_map(forwarded).collect(),
            groups,
            warnings,
        })
    }
}

fn route(report: &Value) -> (String, Route) {
    let mut route = Route {
        queue_p99: report["queue"]["p99"].as_f64(),
        handler_p50: report["handler"]["p50"].as_f64(),
        handler_p99: report["handler"]["p99"].as_f64(),
        ..Route::default()
    };
    for (status, count) in report["handled"].as_object().into_iter().flatten() {
        let count = count.as_u64().unwrap_or_default();
        route.handled += count;
        if status != "ok" {
            route.failed += count;
        }
    }
    let name = report["route"].as_str().unwrap_or_default();
    (name.to_owned(), route)
}

/// `None` without an answer.
fn forwarded(report: &Value) -> Option<Forwarded> {
    let answers = |quantile: &str| report["answers"][quantile].as_f64();
    Some(Forwarded {
        route: report["route"].as_str().unwrap_or_default().to_owned(),
        p50: answers("p50")?,
        p90: answers("p90")?,
        p99: answers("p99")?,
    })
}

impl Groups {
    pub(super) fn new(report: &Value) -> Self {
        let list = report["groups"].as_array().into_iter().flatten();
        let group = |group: &Value| {
            let name = group["group"].as_str().unwrap_or_default();
            (
                name.to_owned(),
                group["members"].as_u64().unwrap_or_default(),
            )
        };
        let mut groups: Vec<_> = list.map(group).collect();
        groups.sort_by_key(|(_, members)| Reverse(*members));
        Self {
            at: Instant::now(),
            total: report["total"].as_u64().unwrap_or_default(),
            groups,
        }
    }
}

fn requests(metrics: &Value) -> Requests {
    let samples = metrics["samples"].as_array().into_iter().flatten();
    let mut requests = Requests::default();
    for sample in samples {
        let value = &sample["value"];
        match sample["name"].as_str() {
            Some("nano_request_seconds") => {
                requests.answered = value["count"].as_u64().unwrap_or_default();
                requests.p50 = value["p50"].as_f64();
                requests.p99 = value["p99"].as_f64();
            }
            Some("nano_cluster_messages_forwarded_total") => {
                requests.forwarded = value.as_u64().unwrap_or_default();
            }
            _ => {}
        }
    }
    requests
}
