//! Counters of how messages and calls ended.

use metrics::Counter;

use crate::{
    ErrorCode,
    error::{Error, code},
};

/// The values of the label `status`; the last stands for every other code.
const STATUSES: [(&str, ErrorCode<'static>); 6] = [
    ("ok", ErrorCode::new("")),
    ("timeout", code::TIMEOUT),
    ("too_many", code::TOO_MANY),
    ("internal", code::INTERNAL),
    ("unavailable", code::UNAVAILABLE),
    ("error", ErrorCode::new("")),
];

/// One counter for each status.
#[derive(Debug)]
pub(crate) struct Statuses([Counter; STATUSES.len()]);

impl Statuses {
    /// Creates the counters; `counter` makes the one of a status.
    pub(crate) fn new(counter: impl Fn(&'static str) -> Counter) -> Self {
        Self(STATUSES.map(|(status, _)| counter(status)))
    }

    /// Counts an end by its error, if there is one.
    pub(crate) fn count(&self, error: Option<&Error>) {
        let index = error.map_or(0, |error| {
            let last = STATUSES.len() - 1;
            let known = (1..last).find(|index| STATUSES[*index].1 == error.code());
            known.unwrap_or(last)
        });
        self.0[index].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicU64};

    use super::*;

    #[test]
    fn each_code_counts_as_one_status() {
        let counts: [Arc<AtomicU64>; 6] = Default::default();
        let at = |status| STATUSES.iter().position(|known| known.0 == status);
        let statuses =
            Statuses::new(|status| Counter::from_arc(counts[at(status).unwrap()].clone()));
        statuses.count(None);
        for code in [
            code::TIMEOUT.as_str(),
            code::INTERNAL.as_str(),
            "TILL-EMPTY",
            "",
        ] {
            statuses.count(Some(&Error::new(code, "")));
        }
        let counts = counts.map(|count| count.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(counts, [1, 1, 0, 1, 0, 2]);
    }
}
