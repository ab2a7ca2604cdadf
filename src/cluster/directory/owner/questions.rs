//! What gates are asked for, a few slots at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::cluster::directory::view::NodeId;

/// The sessions that an answer should have at most. A gate and an owner take some 0.3 ms for them, on threads
/// that serve clients.
const SESSIONS: usize = 256;

/// The most slots in a question.
const MAX_SLOTS: usize = 64;

/// The longest pause before a question, after an answer with many sessions. Without pauses all nodes are busy with
/// nothing else until all slots are known: some 40 ms for a fourth of 100,000 users, in which messages of clients
/// take 5 ms.
const MAX_PAUSE: Duration = Duration::from_millis(3);

/// How long the pauses before all questions to a gate are at most, whose slots do not serve logins meanwhile.
const ALL_PAUSES: Duration = Duration::from_millis(100);

/// The slots that owners have yet to ask gates for. A gate has one question at a time, so that it serves
/// its clients between them.
///
/// The first is for one slot. The next is for twice as many if the answer had few sessions, and for half if it
/// had many: how many there are in a slot is not known before.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<NodeId, Question>);

#[derive(Debug)]
struct Question {
    /// Whether a question has no answer yet.
    is_asked: bool,
    /// The slots of the next question.
    slots: usize,
    waiting: BTreeSet<u16>,
    /// The slots of all questions so far.
    taken: usize,
    /// The sessions in the last answer.
    sessions: usize,
}

impl Questions {
    /// Adds slots to ask a gate for.
    pub(super) fn add(&mut self, gate: &NodeId, slots: impl IntoIterator<Item = u16>) {
        let question = self.0.entry(gate.clone()).or_insert(Question {
            is_asked: false,
            slots: 1,
            waiting: BTreeSet::new(),
            taken: 0,
            sessions: 0,
        });
        question.waiting.extend(slots);
    }

    /// Takes the slots of the next question to a gate, and the pause before it; `None` if it has a question, or
    /// there is nothing to ask.
    pub(super) fn next(&mut self, gate: &NodeId) -> Option<(Vec<u16>, Duration)> {
        let question = self.0.get_mut(gate)?;
        if question.is_asked || question.waiting.is_empty() {
            return None;
        }
        question.is_asked = true;
        let slots = 0..question.slots;
        let slots = slots.map_while(|_| question.waiting.pop_first());
        let slots: Vec<_> = slots.collect();
        let all = question.taken + slots.len() + question.waiting.len();
        let part = slots.len() as f64 / all as f64;
        // As long as the answer before kept others waiting.
        let work = question.sessions as f64 / SESSIONS as f64;
        let pause = MAX_PAUSE.mul_f64(work.min(1.0));
        let pause = pause.min(ALL_PAUSES.mul_f64(part));
        question.taken += slots.len();
        Some((slots, pause))
    }

    /// Notes that a gate has answered its question with so many sessions, and has none any more.
    pub(super) fn answered(&mut self, gate: &NodeId, sessions: usize) {
        if let Some(question) = self.0.get_mut(gate) {
            question.sessions = sessions;
            if sessions > SESSIONS {
                question.slots = (question.slots / 2).max(1);
            } else if sessions <= SESSIONS / 2 {
                question.slots = (question.slots * 2).min(MAX_SLOTS);
            }
        }
        self.withdrawn(gate);
    }

    /// Notes that a gate has no question any more.
    pub(super) fn withdrawn(&mut self, gate: &NodeId) {
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

    fn gate() -> NodeId {
        NodeId {
            address: "a:1".into(),
            incarnation: 1,
        }
    }

    #[test]
    fn a_gate_has_one_question_at_a_time_and_each_slot_is_in_one() {
        let (gate, mut questions) = (gate(), Questions::default());
        questions.add(&gate, 0..400);
        questions.add(&gate, [3, 1000]);
        let (mut asked, mut sizes) = (Vec::new(), Vec::new());
        while let Some((slots, _)) = questions.next(&gate) {
            assert_eq!(questions.next(&gate), None);
            sizes.push(slots.len());
            asked.extend(slots);
            questions.answered(&gate, 0);
        }
        assert!(asked.into_iter().eq((0..400).chain([1000])));
        assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64, 18]);
        assert!(questions.0.is_empty());
        questions.add(&gate, [7, 8]);
        assert_eq!(questions.next(&gate), Some((vec![7], Duration::ZERO)));
        questions.withdrawn(&gate);
        assert_eq!(questions.next(&gate), Some((vec![8], Duration::ZERO)));
        questions.retain(|_| false);
        questions.answered(&gate, 1);
        assert_eq!(questions.next(&gate), None);
    }

    #[test]
    fn answers_and_pauses_are_bounded_however_many_users_there_are() {
        for (in_slot, moved) in [(1, 1024), (10, 7), (50, 85), (50, 1024), (1_000, 1024)] {
            let (gate, mut questions) = (gate(), Questions::default());
            questions.add(&gate, 0..moved);
            let mut paused = Duration::ZERO;
            while let Some((slots, pause)) = questions.next(&gate) {
                let sessions = slots.len() * in_slot;
                assert!(sessions <= in_slot.max(SESSIONS), "{in_slot}: {sessions}");
                paused += pause;
                questions.answered(&gate, sessions);
            }
            assert!(paused <= ALL_PAUSES, "{in_slot}, {moved}: {paused:?}");
            let many = usize::from(moved) * in_slot >= 4 * SESSIONS;
            assert!(
                !many || paused > ALL_PAUSES / 10,
                "{in_slot}, {moved}: {paused:?}"
            );
        }
    }
}
