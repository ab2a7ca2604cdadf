//! Which of several masters a member calls. No I/O.

/// The addresses of masters, called in turn until one answers, then the one that leads.
#[derive(Debug)]
pub(super) struct MasterSelector {
    masters: Vec<Address>,
    at: usize,
    /// The calls in a row that were not answered, up to the number of masters.
    failed: usize,
}

#[derive(Debug)]
struct Address {
    address: String,
    /// Whether it did not answer the last call.
    silent: bool,
}

impl MasterSelector {
    /// Creates a selector that begins with the first of these addresses. There must be one.
    pub(super) fn new(addresses: Vec<String>) -> Self {
        let addresses = addresses.into_iter();
        let masters = addresses.map(|address| Address {
            address,
            silent: false,
        });
        Self {
            masters: masters.collect(),
            at: 0,
            failed: 0,
        }
    }

    /// Returns the address to call.
    pub(super) fn address(&self) -> &str {
        &self.masters[self.at].address
    }

    /// Turns to the next address, because this one did not answer. Returns whether it is one that has
    /// not been called since the last answer.
    pub(super) fn select_next(&mut self) -> bool {
        self.masters[self.at].silent = true;
        self.at = (self.at + 1) % self.masters.len();
        self.failed = (self.failed + 1) % self.masters.len();
        self.failed > 0
    }

    /// Notes an answer, and turns to the address of the master that leads, if it is one of these.
    ///
    /// Not if that one did not answer itself when it was called last. Others pass calls on to it: a
    /// member that cannot reach the leader stays with a master that can.
    pub(super) fn answered(&mut self, leader: Option<&str>) {
        self.failed = 0;
        self.masters[self.at].silent = false;
        let leader = leader.and_then(|leader| self.position(leader));
        if let Some(at) = leader.filter(|at| !self.masters[*at].silent) {
            self.at = at;
        }
    }

    /// Turns to a master that has announced that it leads, and is to be called at once. Returns `false`
    /// if it is none of these, or the one that is called already and answers.
    ///
    /// One that did not answer may have got the call nevertheless, long after, and registered this node:
    /// it would evict a member that went on pausing.
    pub(super) fn lead_by(&mut self, leader: &str) -> bool {
        let is_new = |at: &usize| *at != self.at || self.masters[*at].silent;
        let Some(at) = self.position(leader).filter(is_new) else {
            return false;
        };
        self.failed = 0;
        self.masters[at].silent = false;
        self.at = at;
        true
    }

    fn position(&self, address: &str) -> Option<usize> {
        self.masters.iter().position(|it| it.address == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> MasterSelector {
        MasterSelector::new(["a:1", "b:1", "c:1"].map(str::to_owned).into())
    }

    #[test]
    fn all_are_called_in_turn_before_a_pause() {
        let mut masters = three();
        let turns: Vec<_> = (0..6)
            .map(|_| {
                let at_once = masters.select_next();
                (masters.address().to_owned(), at_once)
            })
            .collect();
        let expected = [("b:1", true), ("c:1", true), ("a:1", false)];
        let expected = expected.map(|(address, at_once)| (address.to_owned(), at_once));
        assert_eq!(turns, [expected.clone(), expected].concat());
    }

    #[test]
    fn the_leader_is_called_unless_it_did_not_answer() {
        let mut masters = three();
        masters.answered(Some("c:1"));
        assert_eq!(masters.address(), "c:1");
        masters.select_next();
        for _ in 0..3 {
            masters.answered(Some("c:1"));
            assert_eq!(masters.address(), "a:1", "it passes calls on to the leader");
        }
        assert!(masters.lead_by("c:1"));
        assert_eq!(masters.address(), "c:1", "it has announced that it leads");
        assert!(!masters.lead_by("c:1") && !masters.lead_by("d:1"));
        masters.answered(Some("d:1"));
        assert_eq!(masters.address(), "c:1");
    }

    #[test]
    fn a_leader_that_did_not_answer_is_called_again_when_it_announces_itself() {
        let mut masters = three();
        while masters.select_next() {}
        assert_eq!(masters.address(), "a:1", "all were called");
        assert!(masters.lead_by("a:1"));
        assert!(!masters.lead_by("a:1"), "once, until that call fails too");
        masters.select_next();
        assert!(masters.lead_by("a:1"));
    }
}
