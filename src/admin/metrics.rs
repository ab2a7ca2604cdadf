//! The node's metrics: as text for collectors, as JSON, and summed up by route.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};

use super::{
    request::{Answer, json as json_answer, text},
    state::AdminState,
};
use crate::metrics::{
    self as names, DESCRIPTIONS, Handles,
    exposition::{Format, encode},
    histogram::{Distribution, bounds},
    registry::{Labels, Sample, Value},
};

/// The answer to a scrape.
pub(super) fn scrape(state: &AdminState, accept: &str) -> Answer {
    let format = Format::of(accept);
    let body = encode(&samples(state), DESCRIPTIONS, format);
    text(StatusCode::OK, format.content_type(), body)
}

/// All samples, in JSON: each page asks for it every two seconds, so it is written without a tree.
pub(super) fn snapshot(state: &AdminState) -> Answer {
    let samples = samples(state);
    let snapshot = Snapshot {
        bounds: bounds(names::REQUEST_SECONDS).collect(),
        samples: samples.iter().map(SampleReport::of).collect(),
    };
    json_answer(StatusCode::OK, &snapshot)
}

#[derive(Serialize)]
struct Snapshot<'a> {
    bounds: Vec<f64>,
    samples: Vec<SampleReport<'a>>,
}

#[derive(Serialize)]
struct SampleReport<'a> {
    name: &'static str,
    #[serde(serialize_with = "without_node")]
    labels: &'a Labels,
    #[serde(rename = "type")]
    kind: &'static str,
    value: ValueReport,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ValueReport {
    Counter(u64),
    Gauge(f64),
    Histogram(DistributionReport),
}

/// In the unit of the metric; quantiles are null without samples.
#[derive(Serialize)]
struct DistributionReport {
    count: u64,
    sum: f64,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    buckets: Vec<(usize, u64)>,
    /// Of a metric that is not in seconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bounds: Vec<f64>,
}

/// The label that all samples of a node share says nothing here.
fn without_node<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    let labels = labels.iter().filter(|(label, _)| *label != "node");
    serializer.collect_map(labels.map(|(label, value)| (label, &**value)))
}

/// What is measured of each route that this node serves, and of those that it forwards.
pub(super) fn routes(state: &AdminState) -> Json {
    let mut routes: BTreeMap<String, Map<String, Json>> = BTreeMap::new();
    for route in state.handle.routes() {
        routes.insert(route.to_string(), Map::new());
    }
    let mut forwarded = Vec::new();
    for sample in state.registry.read() {
        if let (names::CLUSTER_REQUEST_SECONDS, Value::Histogram(seconds)) =
            (sample.name, &sample.value)
        {
            forwarded.push(
                json!({"route": sample.label("route"), "answers": DistributionReport::of(seconds)}),
            );
            continue;
        }
        let Some(route) = sample
            .label("route")
            .and_then(|route| routes.get_mut(route))
        else {
            continue;
        };
        match (sample.name, &sample.value) {
            (names::MESSAGES_HANDLED, Value::Counter(count)) => {
                let status = sample.label("status").unwrap_or_default().to_owned();
                let handled = route.entry("handled").or_insert_with(|| json!({}));
                handled[status] = json!(count);
            }
            (names::QUEUE_SECONDS, Value::Histogram(seconds)) => {
                route.insert("queue".to_owned(), json!(DistributionReport::of(seconds)));
            }
            (names::MESSAGE_SECONDS, Value::Histogram(seconds)) => {
                route.insert("handler".to_owned(), json!(DistributionReport::of(seconds)));
            }
            _ => {}
        }
    }
    let routes: Vec<_> = routes
        .into_iter()
        .map(|(name, mut route)| {
            route.insert("route".to_owned(), json!(name));
            Json::Object(route)
        })
        .collect();
    json!({"routes": routes, "forwarded": forwarded})
}

impl<'a> SampleReport<'a> {
    fn of(sample: &'a Sample) -> Self {
        let (kind, value) = match &sample.value {
            Value::Counter(count) => ("counter", ValueReport::Counter(*count)),
            Value::Gauge(value) => ("gauge", ValueReport::Gauge(*value)),
            Value::Histogram(values) => {
                let mut report = DistributionReport::of(values);
                if values.count() > 0 {
                    report.buckets = values.buckets().collect();
                    if !sample.name.ends_with("_seconds") {
                        report.bounds = bounds(sample.name).collect();
                    }
                }
                ("histogram", ValueReport::Histogram(report))
            }
        };
        Self {
            name: sample.name,
            labels: &sample.labels,
            kind,
            value,
        }
    }
}

impl DistributionReport {
    fn of(values: &Distribution) -> Self {
        Self {
            count: values.count(),
            sum: values.sum(),
            p50: values.quantile(0.5),
            p90: values.quantile(0.9),
            p99: values.quantile(0.99),
            buckets: Vec::new(),
            bounds: Vec::new(),
        }
    }
}

/// All samples, sorted, those among them that are computed now.
fn samples(state: &AdminState) -> Vec<Sample> {
    update(state);
    state.registry.read()
}

/// Sets the gauges that are computed: for each scrape, and from time to time for the recorder of the process.
pub(super) fn update(state: &AdminState) {
    let (handle, registry) = (&state.handle, state.registry.clone());
    let handles = Handles::new(&state.name).with_registry(Some(registry));
    let set = |name, label: Option<(&'static str, &'static str)>, value: f64| {
        handles.gauge_with(name, label.as_slice()).set(value);
    };
    let schedulers = handle.pool().schedulers();
    let waiting = schedulers.iter().map(|scheduler| scheduler.waiting);
    set(names::SCHEDULERS, None, schedulers.len() as f64);
    set(
        names::SCHEDULER_TASKS,
        None,
        waiting.clone().sum::<usize>() as f64,
    );
    let longest = waiting.max().unwrap_or_default();
    set(names::SCHEDULER_TASKS_LONGEST, None, longest as f64);
    let held: Vec<_> = schedulers
        .iter()
        .filter_map(|scheduler| Some(scheduler.held.as_ref()?.running.as_secs_f64()))
        .filter(|running| *running >= 1.0)
        .collect();
    set(names::SCHEDULERS_BLOCKED, None, held.len() as f64);
    let longest = held.into_iter().fold(0.0, f64::max);
    set(names::SCHEDULER_BLOCKED_SECONDS, None, longest);

    let (all, local) = (handle.sessions().count(), handle.sessions().local_count());
    set(names::SESSIONS, Some(("client", "local")), local as f64);
    let remote = all.saturating_sub(local);
    set(names::SESSIONS, Some(("client", "remote")), remote as f64);
    let users = handle.sessions().user_count();
    set(names::USERS, None, users as f64);
    set(names::READY, None, f64::from(u8::from(handle.is_ready())));
    set(
        names::UPTIME_SECONDS,
        None,
        state.started.elapsed().as_secs_f64(),
    );

    if handle.member().is_some() {
        let peers = state.peers();
        let bytes: usize = peers.iter().map(|peer| peer.queue_bytes).sum();
        set(names::CLUSTER_QUEUE_BYTES, None, bytes as f64);
        for name in ["idle", "good", "suspect", "cordoned", "broken", "draining"] {
            let count = peers.iter().filter(|peer| peer.state == name).count();
            set(names::CLUSTER_PEERS, Some(("state", name)), count as f64);
        }
    }
}
