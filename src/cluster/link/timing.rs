//! Samples of how long the other node takes: to answer a PING, and to answer requests. No I/O.

use std::time::Duration;

use tokio::time::Instant;

/// One request in so many is timed, and at most one at a time, so that the clock is read rarely.
const ONE_IN: u32 = 8;

/// Time between two PINGs that are timed, while the link is in use.
const PING_EVERY: Duration = Duration::from_secs(1);

/// A sample without an answer is given up after this time: its request has timed out, or was forgotten.
const GIVE_UP: Duration = Duration::from_secs(60);

/// What is timed on one stream.
#[derive(Debug, Default)]
pub(super) struct Timing {
    requests: u32,
    /// Session, number and time of the request that is timed.
    request: Option<(i64, u64, Instant)>,
    pings: u64,
    /// Number and time of the last PING that was timed.
    ping: Option<(u64, Instant)>,
    /// Whether its answer is awaited.
    pinged: bool,
}

impl Timing {
    /// Counts a request that is sent. Reads the clock if it is to be timed.
    pub(super) fn sent(&mut self, session: i64, request: u64, now: impl FnOnce() -> Instant) {
        let due = self.requests.is_multiple_of(ONE_IN);
        self.requests = self.requests.wrapping_add(1);
        if due && self.request.is_none() {
            self.request = Some((session, request, now()));
        }
    }

    /// When the request was sent that is answered, if it is the one that is timed.
    pub(super) fn answered(&mut self, session: i64, request: u64) -> Option<Instant> {
        let timed =
            |(id, number, _): &mut (i64, u64, Instant)| (*id, *number) == (session, request);
        self.request.take_if(timed).map(|(_, _, at)| at)
    }

    /// The number of a PING that is to be sent now.
    pub(super) fn ping(&mut self, now: Instant) -> Option<u64> {
        if self.request.is_some_and(|(_, _, at)| now >= at + GIVE_UP) {
            self.request = None;
        }
        let wait = match self.pinged {
            true => GIVE_UP,
            false => PING_EVERY,
        };
        if self.ping.is_some_and(|(_, at)| now < at + wait) {
            return None;
        }
        self.pings += 1;
        (self.ping, self.pinged) = (Some((self.pings, now)), true);
        Some(self.pings)
    }

    /// When the PING was sent that is answered.
    pub(super) fn pong(&mut self, number: u64) -> Option<Instant> {
        let (last, at) = self.ping?;
        let answered = std::mem::take(&mut self.pinged) && last == number;
        answered.then_some(at)
    }

    /// A stream broke: what was under way is not answered.
    pub(super) fn forget(&mut self) {
        (self.request, self.pinged) = (None, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_in_eight_is_timed_and_one_at_a_time() {
        let (mut timing, now) = (Timing::default(), Instant::now());
        let mut read = 0;
        for request in 1..=17 {
            timing.sent(7, request, || {
                read += 1;
                now + Duration::from_secs(request)
            });
        }
        assert_eq!(read, 1);
        assert_eq!(timing.answered(7, 9), None);
        assert_eq!(timing.answered(8, 1), None);
        assert_eq!(timing.answered(7, 1), Some(now + Duration::from_secs(1)));
        assert_eq!(timing.answered(7, 1), None);
        for request in 18..=25 {
            timing.sent(7, request, || now);
        }
        assert_eq!(timing.answered(7, 25), Some(now));
    }

    #[test]
    fn one_ping_a_second_is_timed_and_one_without_an_answer_is_given_up() {
        let (mut timing, start) = (Timing::default(), Instant::now());
        assert_eq!(timing.ping(start), Some(1));
        assert_eq!(timing.ping(start + PING_EVERY), None, "no answer yet");
        assert_eq!(timing.pong(1), Some(start));
        assert_eq!(timing.pong(1), None);
        assert_eq!(timing.ping(start + PING_EVERY), Some(2));
        let later = start + PING_EVERY + GIVE_UP;
        assert_eq!(timing.ping(later), Some(3));
        assert_eq!(timing.pong(2), None, "the answer to an earlier one");
    }

    #[test]
    fn a_request_that_is_never_answered_makes_room() {
        let (mut timing, start) = (Timing::default(), Instant::now());
        timing.sent(7, 1, || start);
        timing.ping(start + GIVE_UP);
        for request in 2..=9 {
            timing.sent(7, request, || start + GIVE_UP);
        }
        assert_eq!(timing.answered(7, 9), Some(start + GIVE_UP));
    }
}
