//! Measures handlers by route.

use metrics::{Histogram, histogram};

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
        let labels = [
            ("node", route.node().to_owned()),
            ("route", route.name().to_owned()),
        ];
        Ok(Install::replace(Recorder(histogram!(
            ROUTE_SECONDS,
            &labels
        ))))
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
