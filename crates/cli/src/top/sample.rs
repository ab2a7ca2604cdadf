//! One look at a node.

use std::collections::BTreeMap;

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
    /// # Errors
    /// The node does not answer, or refuses to.
    pub(super) async fn take(admin: &Admin) -> Result<Self, Failure> {
        let warnings = async {
            match admin.get("/api/v1/warnings").await {
                Ok(warnings) => Ok(Some(warnings)),
                Err(Failure::Failed(_)) => Ok(None),
                Err(other) => Err(other),
            }
        };
        let (node, members, queues, schedulers, metrics, routes, warnings) = tokio::try_join!(
            admin.get("/api/v1/node"),
            admin.get("/api/v1/members"),
            admin.get("/api/v1/queues"),
            admin.get("/api/v1/schedulers?limit=10"),
            admin.get("/api/v1/metrics"),
            admin.get("/api/v1/routes"),
            warnings,
        )?;
        let routes = routes["routes"].as_array().into_iter().flatten();
        Ok(Self {
            at: Instant::now(),
            node,
            members,
            queues,
            schedulers,
            requests: requests(&metrics),
            routes: routes.map(route).collect(),
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
