//! The node's metrics: as text for collectors, as JSON, and summed up by route.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use metrics::Gauge;
use serde_json::{Map, Value as Json, json};

use super::{
    request::{Answer, text},
    state::AdminState,
};
use crate::metrics::{
    self as names, DESCRIPTIONS,
    exposition::{Format, encode},
    histogram::{Distribution, duration_bounds},
    registry::{Sample, Value},
};

/// The answer to a scrape.
pub(super) fn scrape(state: &AdminState, accept: &str) -> Answer {
    let format = Format::of(accept);
    let body = encode(&samples(state), DESCRIPTIONS, format);
    text(StatusCode::OK, format.content_type(), body)
}

/// All samples, in JSON.
pub(super) fn snapshot(state: &AdminState) -> Json {
    let samples: Vec<_> = samples(state).iter().map(sample).collect();
    json!({"bounds": duration_bounds().collect::<Vec<_>>(), "samples": samples})
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
            forwarded
                .push(json!({"route": sample.label("route"), "answers": distribution(seconds)}));
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
                route.insert("queue".to_owned(), distribution(seconds));
            }
            (names::MESSAGE_SECONDS, Value::Histogram(seconds)) => {
                route.insert("handler".to_owned(), distribution(seconds));
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

fn sample(sample: &Sample) -> Json {
    let labels: Map<_, _> = sample
        .labels
        .iter()
        .filter(|(label, _)| *label != "node")
        .map(|(label, value)| ((*label).to_owned(), json!(&**value)))
        .collect();
    let (kind, value) = match &sample.value {
        Value::Counter(count) => ("counter", json!(count)),
        Value::Gauge(value) => ("gauge", json!(value)),
        Value::Histogram(values) => {
            let mut value = distribution(values);
            if values.count() > 0 {
                let below = values.cumulative().map(|(_, below)| below);
                value["buckets"] = below.collect();
                if !sample.name.ends_with("_seconds") {
                    value["bounds"] = values.cumulative().map(|(bound, _)| bound).collect();
                }
            }
            ("histogram", value)
        }
    };
    json!({"name": sample.name, "labels": labels, "type": kind, "value": value})
}

/// In the unit of the metric; quantiles are null without samples.
fn distribution(seconds: &Distribution) -> Json {
    json!({
        "count": seconds.count(),
        "sum": seconds.sum(),
        "p50": seconds.quantile(0.5),
        "p90": seconds.quantile(0.9),
        "p99": seconds.quantile(0.99),
    })
}

/// All samples, sorted, those among them that are computed now.
fn samples(state: &AdminState) -> Vec<Sample> {
    update(state);
    state.registry.read()
}

/// Sets the gauges that are computed for each scrape.
fn update(state: &AdminState) {
    let (handle, registry) = (&state.handle, &state.registry);
    let set = |name, label: Option<(&'static str, &'static str)>, value: f64| {
        let labels = [("node", state.name.clone().into())].into_iter();
        let more = label.map(|(label, value)| (label, value.into()));
        let gauge = registry.gauge(name, labels.chain(more).collect(), Gauge::noop());
        gauge.set(value);
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
