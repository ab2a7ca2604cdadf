//! Whether a measurement met its target.

use super::{
    outcome::{Measured, Outcome},
    peer::Peer,
    scenario::{Base, Bound, Target},
    stats::Spread,
};

#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) wanted: String,
    pub(crate) found: Spread,
    pub(crate) met: bool,
}

/// Of all targets of a scenario for which there are numbers.
pub(crate) fn verdicts(outcome: &Outcome, scenario: &Measured) -> Vec<Verdict> {
    scenario
        .targets
        .iter()
        .filter_map(|target| verdict(outcome, scenario, target))
        .collect()
}

fn verdict(outcome: &Outcome, scenario: &Measured, target: &Target) -> Option<Verdict> {
    let metric = target.metric;
    let ours = scenario.values(Peer::Nano, metric);
    let (found, base) = match &target.base {
        Base::Nothing => (Spread::of(ours)?, String::new()),
        Base::Peer(peer) => (
            Spread::ratio(&ours, &scenario.values(*peer, metric))?,
            format!(" / {}", peer.title()),
        ),
        Base::Own(name) => {
            let own = outcome.scenario(name)?.values(Peer::Nano, metric);
            (Spread::ratio(&ours, &own)?, format!(" / ours in {name}"))
        }
    };
    let (met, wanted) = match target.bound {
        Bound::AtLeast(least) => (found.median >= least, format!(">= {least:.2}")),
        Bound::AtMost(most) => (found.median <= most, format!("<= {most:.3}")),
    };
    Some(Verdict {
        what: format!("{}{base}", metric.title()),
        wanted,
        found,
        met,
    })
}
