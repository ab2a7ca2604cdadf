//! The state machines of one node, what waits for them, and what they want done.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    cluster::{
        directory::{
            holdings::{self, Holdings, Outcome},
            message::{CallerId, Policy},
            owner::{self, Owner},
            view::NodeId,
        },
        node_services::NodeCall,
    },
    session::UserId,
};

/// How often the state machines look at the clock while they wait for something.
const TICK: Duration = Duration::from_millis(100);

pub(super) struct State {
    pub(super) owner: Owner,
    pub(super) holdings: Holdings,
    /// Calls of other nodes that wait for an answer.
    pub(super) callers: HashMap<CallerId, NodeCall>,
    last_caller: CallerId,
    /// Logins of this gate that wait, by session: those for one user. One for another user ends them.
    logins: HashMap<i64, (UserId, Vec<Login>)>,
    /// When the state machines look at the clock next; `None` if nothing waits for that.
    pub(super) next_tick: Option<Instant>,
    /// What is to be done, in order, by the thread that is `applying`.
    pub(super) effects: VecDeque<Effect>,
    pub(super) applying: bool,
}

type Login = oneshot::Sender<Outcome>;

pub(super) enum Effect {
    Owner(owner::Effect),
    Gate(holdings::Effect),
    /// Logins have ended.
    EndLogins {
        waiting: Vec<Login>,
        outcome: Outcome,
    },
}

impl State {
    pub(super) fn new(own: NodeId) -> Self {
        Self {
            owner: Owner::new(own),
            holdings: Holdings::new(),
            callers: HashMap::new(),
            last_caller: 0,
            logins: HashMap::new(),
            next_tick: None,
            effects: VecDeque::new(),
            applying: false,
        }
    }

    /// When the state machines need the clock; `None` while they wait for nothing.
    pub(super) fn wants_tick(&self, now: Instant) -> Option<Instant> {
        if self.owner.is_idle() && self.holdings.is_idle() {
            return None;
        }
        let usual = now + TICK;
        Some(
            self.owner
                .next_retry()
                .map_or(usual, |retry| retry.min(usual)),
        )
    }

    pub(super) fn expect(&mut self, call: NodeCall) -> CallerId {
        self.last_caller += 1;
        self.callers.insert(self.last_caller, call);
        self.last_caller
    }

    /// Claims a user for a session. `login` learns of the outcome; its drop is [`Outcome::Ended`].
    pub(super) fn login(
        &mut self,
        session: i64,
        user: UserId,
        policy: Policy,
        login: Login,
        now: Instant,
    ) {
        let (of, waiting) = self
            .logins
            .entry(session)
            .or_insert_with(|| (user.clone(), Vec::new()));
        if *of != user {
            waiting.clear();
            *of = user.clone();
        }
        waiting.push(login);
        self.holdings.login(session, user, policy, now);
    }

    /// Queues what the state machines want done. Logins are taken now: one that is made before the
    /// effect is applied is not the one that has ended.
    pub(super) fn collect(&mut self) {
        let owner = self.owner.take_effects().into_iter().map(Effect::Owner);
        self.effects.extend(owner);
        for effect in self.holdings.take_effects() {
            let holdings::Effect::LoggedIn {
                session,
                user,
                outcome,
            } = effect
            else {
                self.effects.push_back(Effect::Gate(effect));
                continue;
            };
            if self.logins.get(&session).is_some_and(|(of, _)| *of == user) {
                let logins = self.logins.remove(&session);
                let (_, waiting) = logins.unwrap_or((user, Vec::new()));
                self.effects
                    .push_back(Effect::EndLogins { waiting, outcome });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::{Receiver, error::TryRecvError};

    use super::*;
    use crate::cluster::directory::view::View;

    fn log_in(state: &mut State, user: &str) -> Receiver<Outcome> {
        let (login, outcome) = oneshot::channel();
        let now = Instant::now();
        state.login(1, user.into(), Policy::Replace, login, now);
        state.collect();
        outcome
    }

    /// No user of a slot can log in before its question is answered.
    #[test]
    fn a_question_that_has_failed_is_repeated_when_it_is_due_and_not_at_the_usual_time() {
        let [own, gate] = ["o:1", "a:1"].map(|address| NodeId {
            address: address.into(),
            incarnation: 1,
        });
        let (mut state, now) = (State::new(own.clone()), Instant::now());
        assert_eq!(state.wants_tick(now), None);
        let view = View::new(1, vec![own, gate.clone()], 0);
        state.owner.set_view(view, now);
        state.collect();
        assert_eq!(state.wants_tick(now), None, "only answers are waited for");
        let asked = state.effects.iter().find_map(|effect| match effect {
            Effect::Owner(owner::Effect::Call { call, to, .. }) if *to == gate => Some(*call),
            _ => None,
        });
        state.owner.on_reply(asked.unwrap(), None, now);
        let soon = now + Duration::from_millis(10);
        assert_eq!(state.wants_tick(now), Some(soon));
        // One that is overdue is not put off.
        assert_eq!(state.wants_tick(now + TICK), Some(soon));
    }

    #[test]
    fn the_end_of_a_login_is_not_that_of_a_later_one_for_the_same_user() {
        let mut state = State::new(NodeId {
            address: "a:1".into(),
            incarnation: 1,
        });
        let mut first = log_in(&mut state, "ann");
        let mut second = log_in(&mut state, "bob");
        // Before anything is applied.
        let mut third = log_in(&mut state, "ann");
        for effect in std::mem::take(&mut state.effects) {
            if let Effect::EndLogins { waiting, outcome } = effect {
                waiting.into_iter().for_each(|it| it.send(outcome).unwrap());
            }
        }
        assert_eq!(first.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(second.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(third.try_recv(), Err(TryRecvError::Empty));
        state.holdings.closed(1, Instant::now());
        state.collect();
        let ended = |effect: &Effect| matches!(effect, Effect::EndLogins { waiting, outcome: Outcome::Ended } if waiting.len() == 1);
        assert!(state.effects.iter().any(ended));
    }
}
