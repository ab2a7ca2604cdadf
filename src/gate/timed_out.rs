//! The routes of requests that have timed out lately.

use std::collections::VecDeque;
#[cfg(feature = "admin")]
use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::route_text::RouteText;

/// Requests that are remembered, the latest.
const KEPT: usize = 64;

/// The latest requests that have timed out, by their routes. The lock guards them alone.
#[derive(Debug, Default)]
pub(crate) struct TimedOut(Mutex<VecDeque<(Instant, RouteText)>>);

impl TimedOut {
    pub(super) fn add(&self, route: RouteText, now: Instant) {
        let mut latest = self.0.lock();
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back((now, route));
    }

    /// At most `most` routes whose requests have timed out since `now - within`, those with the most
    /// of them first.
    #[cfg(feature = "admin")]
    pub(crate) fn routes(&self, now: Instant, within: Duration, most: usize) -> Vec<String> {
        let latest = self.0.lock();
        let age = |at: Instant| now.saturating_duration_since(at);
        let recent = latest.iter().filter(|(at, _)| age(*at) <= within);
        let mut counts = BTreeMap::<&str, usize>::new();
        for (_, route) in recent {
            *counts.entry(route.as_str()).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(*count));
        let routes = counts.into_iter().take(most);
        routes.map(|(route, _)| route.to_owned()).collect()
    }
}

#[cfg(all(test, feature = "admin"))]
mod tests {
    use super::*;

    #[test]
    fn routes_that_time_out_most_come_first_and_old_ones_not_at_all() {
        let (timed_out, begun) = (TimedOut::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let routes = |seconds, most| timed_out.routes(at(seconds), Duration::from_secs(10), most);
        assert_eq!(routes(0, 3), [""; 0]);
        timed_out.add(RouteText::new("Old.Route"), at(0));
        for route in ["Shop.Buy", "Room.Join", "Room.Join", "A.B"] {
            timed_out.add(RouteText::new(route), at(5));
        }
        assert_eq!(routes(10, 2), ["Room.Join", "A.B"]);
        assert_eq!(routes(11, 9), ["Room.Join", "A.B", "Shop.Buy"]);
        assert_eq!(routes(16, 9), [""; 0]);
        for _ in 0..2 * KEPT {
            timed_out.add(RouteText::new("Many.Times"), at(5));
        }
        assert_eq!(routes(5, 9), ["Many.Times"]);
        assert_eq!(timed_out.0.lock().len(), KEPT);
    }
}
