//! Samples of how long the other node takes: to answer a PING, and to answer requests. No I/O.

use std::time::Duration;

use tokio::time::Instant;

/// One request in so many is timed, and at most one at a time, so that the clock is read rarely.
const ONE_IN: u32 = 8;

/// Time between two PINGs that are timed, while the link is in use.
const PING_EVERY: Duration = Duration::from_secs(1);

/// A sample without an answer is given up after this time: its request has timed out, or was forgotten.
const GIVE_UP: Duration = Duration::from_secs(60);

/// A request that is timed.
#[derive(Debug)]
pub(in crate::cluster) struct Sample {
    session: i64,
    request: u64,
    pub(in crate::cluster) route: Box<str>,
    pub(in crate::cluster) sent: Instant,
}

/// What is timed on one stream.
#[derive(Debug, Default)]
pub(super) struct Timing {
    requests: u32,
    /// The request that is timed.
    request: Option<Sample>,
    pings: u64,
    /// Number and time of the last PING that was timed.
    ping: Option<(u64, Instant)>,
    /// Whether its answer is awaited.
    pinged: bool,
}

impl Timing {
    /// Whether the next request is to be timed.
    pub(super) fn is_due(&self) -> bool {
        self.request.is_none() && self.requests.is_multiple_of(ONE_IN)
    }

    /// Counts a request that is sent. Times it if its route and the time are given.
    pub(super) fn sent(&mut self, session: i64, request: u64, timed: Option<(Box<str>, Instant)>) {
        self.requests = self.requests.wrapping_add(1);
        if let Some((route, sent)) = timed {
            self.request = Some(Sample {
                session,
                request,
                route,
                sent,
            });
        }
    }

    /// The request that is answered, if it is the one that is timed.
    pub(super) fn answered(&mut self, session: i64, request: u64) -> Option<Sample> {
        self.request
            .take_if(|sample| (sample.session, sample.request) == (session, request))
    }

    /// The number of a PING that is to be sent now.
    pub(super) fn ping(&mut self, now: Instant) -> Option<u64> {
        self.request.take_if(|sample| now >= sample.sent + GIVE_UP);
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

    /// Sends a request as a stream does.
    fn send(timing: &mut Timing, request: u64, now: Instant) -> bool {
        let is_due = timing.is_due();
        timing.sent(7, request, is_due.then(|| ("Room.Join".into(), now)));
        is_due
    }

    #[test]
    fn one_request_in_eight_is_timed_and_one_at_a_time() {
        let (mut timing, now) = (Timing::default(), Instant::now());
        let timed = (1..=17).filter(|request| send(&mut timing, *request, now));
        assert_eq!(timed.collect::<Vec<_>>(), [1]);
        assert!(timing.answered(7, 9).is_none());
        assert!(timing.answered(8, 1).is_none());
        let sample = timing.answered(7, 1).unwrap();
        assert_eq!((&*sample.route, sample.sent), ("Room.Join", now));
        assert!(timing.answered(7, 1).is_none());
        let timed = (18..=25).filter(|request| send(&mut timing, *request, now));
        assert_eq!(timed.collect::<Vec<_>>(), [25]);
        assert!(timing.answered(7, 25).is_some());
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
        assert!(send(&mut timing, 1, start));
        timing.ping(start + GIVE_UP);
        for request in 2..=9 {
            send(&mut timing, request, start + GIVE_UP);
        }
        assert!(timing.answered(7, 9).is_some());
    }
}
