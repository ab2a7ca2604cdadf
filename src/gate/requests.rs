//! A client's requests: at most so many in flight, and a timeout for each.

use tokio::time::Instant;
use tracing::warn;

use super::{client_state::Unanswered, handle::ConnectionHandle, route_text::RouteText};
use crate::{
    error::{Error, Result, code},
    session::{Session, SessionSink},
    trace::OpenSpan,
};

impl ConnectionHandle {
    /// Adds a request that has arrived; `deadline` is when it times out.
    ///
    /// # Errors
    /// `TOO_MANY` if the client has as many in flight as it may. The request is in flight anyway,
    /// so that it can be answered.
    pub(super) fn expect(
        &self,
        id: u64,
        deadline: Option<Instant>,
        route: &str,
        span: Option<Box<OpenSpan>>,
    ) -> Result {
        let route = RouteText::new(route);
        let mut state = self.state.lock();
        let limit = self.gate.limits.max_in_flight();
        let full = state.client.in_flight.len() >= limit;
        let request = Unanswered { route, span };
        state.client.in_flight.insert(id, deadline, request);
        if full {
            Err(Error::new(
                code::TOO_MANY,
                format!("more than {limit} requests in flight"),
            ))
        } else {
            Ok(())
        }
    }

    /// Answers every request whose deadline has passed with a timeout, and returns the next
    /// deadline.
    pub(super) fn expire(&self, session: &Session, now: Instant) -> Option<Instant> {
        let expired: Vec<_> = {
            let state = self.state.lock();
            let expired = state.client.in_flight.expired(now);
            expired.map(|(id, it)| (id, it.route.clone())).collect()
        };
        for (id, route) in expired {
            self.gate.metrics.timed_out.increment(1);
            self.gate.timed_out.add(route.clone(), now);
            // A response that came in between wins.
            let _ = self.respond(id, Err(Error::new(code::TIMEOUT, "the request timed out")));
            if let Some(held_back) = self.gate.timeout_log.pass() {
                warn!(
                    session = session.id(),
                    user = session.logged_user(),
                    route = route.as_str(),
                    request = id,
                    held_back,
                    "request timed out"
                );
            }
        }
        self.state.lock().client.in_flight.next_deadline()
    }
}
