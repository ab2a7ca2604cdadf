//! Times of requests by routes that other members serve.

use std::{collections::HashMap, time::Duration};

use metrics::Histogram;
use parking_lot::Mutex;

use super::handles::Handles;

/// Routes that have a label of their own. What follows counts as [`OTHER`].
const MAX_ROUTES: usize = 1000;

/// The label of requests whose route has none. Every route has a dot.
const OTHER: &str = "other";

/// A histogram for each route.
///
/// Which routes other members have, this node does not know. One becomes a label with its first answer
/// that is no error, for then a handler has it: what clients make up does not.
///
/// The lock guards the map; series are made under it.
#[derive(Debug)]
pub(crate) struct RouteTimes {
    name: &'static str,
    handles: Handles,
    other: Histogram,
    routes: Mutex<HashMap<Box<str>, Histogram>>,
}

impl RouteTimes {
    pub(crate) fn new(name: &'static str, handles: &Handles) -> Self {
        Self {
            name,
            handles: handles.clone(),
            other: handles.histogram_with(name, &[("route", OTHER)]),
            routes: Mutex::default(),
        }
    }

    /// Records a request that took so long, and whether its answer is an error.
    pub(crate) fn record(&self, route: &str, failed: bool, took: Duration) {
        let mut routes = self.routes.lock();
        if !failed && routes.len() < MAX_ROUTES && !routes.contains_key(route) {
            let histogram = self.handles.histogram_with(self.name, &[("route", route)]);
            routes.insert(route.into(), histogram);
        }
        routes.get(route).unwrap_or(&self.other).record(took);
    }
}

#[cfg(feature = "admin")]
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::registry::{Registry, Value};

    /// How many requests each label has.
    fn counts(registry: &Registry) -> Vec<(String, u64)> {
        let samples = registry.read().into_iter();
        let counts = samples.map(|sample| match &sample.value {
            Value::Histogram(times) => (sample.label("route").unwrap().to_owned(), times.count()),
            _ => unreachable!(),
        });
        counts.collect()
    }

    #[test]
    fn a_route_becomes_a_label_with_its_first_answer_that_is_no_error() {
        let registry = Arc::<Registry>::default();
        let handles = Handles::new("node").with_registry(Some(registry.clone()));
        let times = RouteTimes::new("seconds", &handles);
        let record = |route, failed| times.record(route, failed, Duration::from_millis(1));
        record("Room.Join", true);
        record("Room.Join", false);
        record("Room.Join", true);
        record("Room.None", true);
        assert_eq!(
            counts(&registry),
            [("Room.Join".to_owned(), 2), ("other".to_owned(), 2)]
        );
    }

    #[test]
    fn labels_are_bounded() {
        let registry = Arc::<Registry>::default();
        let handles = Handles::new("node").with_registry(Some(registry.clone()));
        let times = RouteTimes::new("seconds", &handles);
        for number in 0..MAX_ROUTES + 5 {
            times.record(&format!("Room.R{number}"), false, Duration::ZERO);
        }
        let counts = counts(&registry);
        assert_eq!(counts.len(), MAX_ROUTES + 1);
        assert!(counts.contains(&("other".to_owned(), 5)));
    }
}
