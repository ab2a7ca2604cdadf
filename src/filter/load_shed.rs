//! Refuses messages while their scheduler is behind.

use std::time::Duration;

use metrics::Counter;

use super::{
    context::{Context, Flow},
    route::Route,
    traits::{Filter, Install},
};
use crate::{
    error::{Error, Result, code},
    metrics::MESSAGES_SHED,
};

/// Refuses messages that waited for their scheduler longer than a bound, with
/// [`code::TOO_MANY`](crate::code::TOO_MANY).
///
/// A refusal takes microseconds, so an overloaded scheduler works through its queue at once, and the
/// messages it does handle have waited no longer than the bound. Without it an overloaded
/// scheduler's queue fills up, and every answer comes late.
///
/// The wait counts from the decoding of the message to its turn. It includes the session's earlier
/// messages, on other schedulers too. Refusals are counted in
/// [`metrics::MESSAGES_SHED`](crate::metrics::MESSAGES_SHED). Notifies are refused too, unless
/// [`keep_notifies`](LoadShed::keep_notifies) is set.
#[derive(Clone, Debug)]
pub struct LoadShed {
    bound: Duration,
    keep_notifies: bool,
}

impl LoadShed {
    /// Refuses messages that waited longer than `bound`.
    pub fn new(bound: Duration) -> Self {
        Self {
            bound,
            keep_notifies: false,
        }
    }

    /// Refuses requests and calls only: a client does not learn that a notify was refused.
    #[must_use]
    pub fn keep_notifies(mut self) -> Self {
        self.keep_notifies = true;
        self
    }
}

impl Filter for LoadShed {
    fn for_route(&self, route: &mut Route<'_>) -> Result<Install> {
        route.measure_queue_time();
        Ok(Install::replace(RouteShed {
            bound: self.bound,
            keep_notifies: self.keep_notifies,
            shed: route.metrics.counter(MESSAGES_SHED),
        }))
    }
}

struct RouteShed {
    bound: Duration,
    keep_notifies: bool,
    shed: Counter,
}

impl Filter for RouteShed {
    fn before(&self, call: &mut Context<'_>) -> Result<Flow> {
        let waited = call.queue_time().unwrap_or_default();
        if waited <= self.bound || (self.keep_notifies && !call.is_request()) {
            return Ok(Flow::Continue);
        }
        self.shed.increment(1);
        Err(Error::new(
            code::TOO_MANY,
            "the server is overloaded, try again later",
        ))
    }
}
