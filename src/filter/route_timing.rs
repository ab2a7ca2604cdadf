//! Measures handlers by route.

use metrics::Histogram;

use super::{
    context::{Context, Outcome},
    route::Route,
    traits::{Filter, Install},
};
use crate::{error::Result, metrics::ROUTE_SECONDS};

/// Records how long handlers take in [`metrics::ROUTE_SECONDS`](crate::metrics::ROUTE_SECONDS), by
/// route.
///
/// Async handlers count with the time they waited. Messages that a filter refuses are not recorded.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteTiming;

impl Filter for RouteTiming {
    fn for_route(&self, route: &mut Route<'_>) -> Result<Install> {
        let labels = [("route", route.name())];
        let histogram = route.metrics.histogram_with(ROUTE_SECONDS, &labels);
        Ok(Install::replace(Recorder(histogram)))
    }
}

/// The histogram of one route, looked up once.
struct Recorder(Histogram);

impl Filter for Recorder {
    fn after(&self, _: &Context<'_>, outcome: &mut Outcome<'_>) {
        if let Some(took) = outcome.took() {
            self.0.record(took);
        }
    }
}
