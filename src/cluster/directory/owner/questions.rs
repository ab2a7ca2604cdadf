//! What gates are asked for, a few slots at a time.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::directory::view::NodeId;

/// The parts in which a gate is asked for all slots. It answers on a thread that serves clients, which would
/// wait for all of its sessions otherwise.
const PARTS: u16 = 64;

/// The slots that owners have yet to ask gates for. A gate has one question at a time, so that it serves
/// its clients between them.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<NodeId, Question>);

#[derive(Debug, Default)]
struct Question {
    /// Whether a question has no answer yet.
    is_asked: bool,
    waiting: BTreeSet<u16>,
}

impl Questions {
    /// Adds slots to ask a gate for.
    pub(super) fn add(&mut self, gate: &NodeId, slots: impl IntoIterator<Item = u16>) {
        let question = self.0.entry(gate.clone()).or_default();
        question.waiting.extend(slots);
    }

    /// Takes the slots of the next question to a gate, of so many that there are; `None` if it has a
    /// question, or there is nothing to ask.
    pub(super) fn next(&mut self, gate: &NodeId, slots: u16) -> Option<Vec<u16>> {
        let question = self.0.get_mut(gate)?;
        if question.is_asked || question.waiting.is_empty() {
            return None;
        }
        question.is_asked = true;
        let part = 0..(slots / PARTS).max(1);
        Some(part.map_while(|_| question.waiting.pop_first()).collect())
    }

    /// Notes that a gate has no question any more.
    pub(super) fn answered(&mut self, gate: &NodeId) {
        if let Some(question) = self.0.get_mut(gate) {
            question.is_asked = false;
            if question.waiting.is_empty() {
                self.0.remove(gate);
            }
        }
    }

    /// Forgets what was to be asked of gates that are gone.
    pub(super) fn retain(&mut self, is_here: impl Fn(&NodeId) -> bool) {
        self.0.retain(|gate, _| is_here(gate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_has_one_question_at_a_time_and_each_slot_is_in_one() {
        let gate = NodeId {
            address: "a:1".into(),
            incarnation: 1,
        };
        let mut questions = Questions::default();
        questions.add(&gate, 0..40);
        questions.add(&gate, [3, 100]);
        let mut asked = Vec::new();
        while let Some(slots) = questions.next(&gate, 1024) {
            assert!(slots.len() <= 16);
            assert_eq!(questions.next(&gate, 1024), None);
            asked.extend(slots);
            questions.answered(&gate);
        }
        assert!(asked.into_iter().eq((0..40).chain([100])));
        assert!(questions.0.is_empty());
        questions.add(&gate, [7, 8]);
        assert_eq!(questions.next(&gate, 8), Some(vec![7]));
        questions.retain(|_| false);
        questions.answered(&gate);
        assert_eq!(questions.next(&gate, 8), None);
    }
}
