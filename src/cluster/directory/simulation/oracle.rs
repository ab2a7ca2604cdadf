//! What clients see, and what they must not see.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::session::UserId;

/// A session of the whole simulation: process, session.
pub(super) type Key = (u64, i64);

/// How long a claim may wait at an owner when the notice that its session has ended was lost.
const OWNER_LAG: Duration = Duration::from_secs(20);

/// How long before a login a session may have ended that it was refused for: its gate's answer was
/// under way.
const ANSWER_LAG: Duration = Duration::from_secs(2);

/// How long a login waits for close callbacks at most.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(5);

/// When a login has begun, and when it was decided or its session has ended.
#[derive(Debug)]
struct Login {
    begun: Instant,
    until: Option<Instant>,
    /// The number of its claim once it was granted, and whether its gate was in a view then.
    claim: Option<u64>,
    in_view: bool,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The first thing that went wrong.
    pub(super) problem: Option<String>,
    pub(super) granted: usize,
    pub(super) took_over: usize,
    /// Sessions that an owner has found again at a gate that was cut off.
    pub(super) confirmed_again: usize,
    pub(super) refused: usize,
    /// All sessions that were opened for a user, and when each has ended.
    sessions: BTreeMap<UserId, BTreeMap<Key, Option<Instant>>>,
    logins: BTreeMap<UserId, BTreeMap<Key, Login>>,
    /// Sessions that had a user alone and whose close callbacks have not run.
    unfinished: BTreeMap<UserId, Vec<Key>>,
    /// Sessions that were ended for logins, by login.
    made_way: BTreeMap<Key, Key>,
    /// All logins that sessions were ended for.
    replacing: BTreeSet<Key>,
    /// Since when the close callbacks run.
    closing: BTreeMap<Key, Instant>,
    /// The sessions that gates have named when they left, by the owner that knows of them.
    named: BTreeMap<u64, BTreeSet<(UserId, Key)>>,
}

impl Oracle {
    pub(super) fn fail(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// Checks that no user has two sessions that are confirmed.
    pub(super) fn check<'a>(&mut self, confirmed: impl Iterator<Item = (&'a UserId, Key)>) {
        let mut seen: Vec<(&UserId, Key)> = Vec::new();
        for (user, key) in confirmed {
            if let Some((_, other)) = seen.iter().find(|(known, _)| *known == user) {
                self.fail(format!(
                    "user {user} has two sessions: {other:?} and {key:?}"
                ));
            }
            seen.push((user, key));
        }
    }

    /// A session of a user is opened.
    pub(super) fn opens(&mut self, user: &UserId, key: Key) {
        let sessions = self.sessions.entry(user.clone()).or_default();
        sessions.insert(key, None);
    }

    /// Sessions have ended.
    fn ended(&mut self, is_one: impl Fn(&Key) -> bool, now: Instant) {
        for (key, ended) in self.sessions.values_mut().flatten() {
            if is_one(key) {
                ended.get_or_insert(now);
            }
        }
    }

    /// A login is refused because another session of the user lives. There must have been one, unless
    /// a node was suspended until `resumed` and has answered late.
    pub(super) fn refused(&mut self, key: Key, resumed: Instant) {
        self.refused += 1;
        let mut logins = self.logins.iter();
        let login = logins.find_map(|(user, logins)| Some((user, logins.get(&key)?.begun)));
        let Some((user, begun)) = login else {
            return;
        };
        let lives = |ended: &Option<Instant>| ended.is_none_or(|at| at + ANSWER_LAG >= begun);
        let mut others = self.sessions.get(user).into_iter().flatten();
        let lived = others.any(|(other, ended)| *other != key && lives(ended));
        if !lived && resumed + ANSWER_LAG < begun {
            let problem = format!("login of {user} at {key:?} is refused, and no session lives");
            self.fail(problem);
        }
    }

    /// A login begins.
    pub(super) fn begins(&mut self, user: &UserId, key: Key, now: Instant) {
        let logins = self.logins.entry(user.clone()).or_default();
        let login = Login {
            begun: now,
            until: None,
            claim: None,
            in_view: false,
        };
        logins.insert(key, login);
    }

    /// A login has been granted, or has failed. An owner may not know yet that one has failed.
    pub(super) fn ends(&mut self, key: Key, granted: bool, now: Instant) {
        if !granted {
            self.ended(|ended| *ended == key, now);
        }
        let until = if granted { now } else { now + OWNER_LAG };
        for logins in self.logins.values_mut() {
            if let Some(login) = logins.get_mut(&key) {
                login.until.get_or_insert(until);
            }
        }
    }

    /// A session is ended for another one, which must be there: its login was under way after this one
    /// was granted, or has the later claim. Grants need not arrive in the order they were given.
    pub(super) fn replaced(&mut self, user: &UserId, key: Key) {
        let logins = self.logins.entry(user.clone()).or_default();
        let Some(login) = logins.get(&key).filter(|login| login.in_view) else {
            return;
        };
        let (since, claim) = (login.until.unwrap_or(login.begun), login.claim);
        let later =
            |login: &Login| login.until.is_none_or(|until| since <= until) || login.claim > claim;
        let mut others = logins.iter().filter(|(other, _)| **other != key);
        if !others.any(|(_, login)| later(login)) {
            self.fail(format!(
                "{key:?} of {user} is replaced, and no login came later"
            ));
        }
    }

    /// A session is ended for a login. The owners learn so if its gate is in a view.
    pub(super) fn made_way(&mut self, key: Key, login: Key, in_view: bool) {
        self.replacing.insert(login);
        if in_view {
            self.made_way.insert(login, key);
        }
    }

    /// A login says that it has replaced a session: one must have been ended for it.
    pub(super) fn says_replaced(&mut self, user: &UserId, key: Key) {
        if !self.replacing.contains(&key) {
            self.fail(format!(
                "login of {user} at {key:?} has replaced a session, and none was ended for it"
            ));
        }
    }

    /// A session that was granted before is confirmed again.
    pub(super) fn confirmed(&mut self, user: &UserId, key: Key) {
        self.confirmed_again += 1;
        let unfinished = self.unfinished.entry(user.clone()).or_default();
        if !unfinished.contains(&key) {
            unfinished.push(key);
        }
    }

    /// A gate that leaves has named a session to an owner.
    pub(super) fn named(&mut self, owner: u64, user: &UserId, key: Key) {
        let named = self.named.entry(owner).or_default();
        named.insert((user.clone(), key));
    }

    /// An owner grants a login that is not late: no gate that leaves may have named a session of the
    /// user to it whose close callbacks run.
    pub(super) fn grants(&mut self, owner: u64, user: &UserId, key: Key, now: Instant) {
        let runs = |other: &Key| {
            let since = self.closing.get(other);
            since.is_some_and(|since| now.duration_since(*since) < CALLBACK_TIMEOUT)
        };
        let mut named = self.named.get(&owner).into_iter().flatten();
        if let Some((_, other)) =
            named.find(|(of, other)| of == user && *other != key && runs(other))
        {
            let problem = format!(
                "{key:?} of {user} is granted, and callbacks of {other:?}, whose gate leaves, run"
            );
            self.fail(problem);
        }
    }

    /// A login that is not late says whether it has replaced a session: it must if a gate that is in
    /// the view has ended one for it. Its close callbacks must have run then.
    pub(super) fn says(
        &mut self,
        user: &UserId,
        key: Key,
        replaced: bool,
        in_view: impl Fn(u64) -> bool,
    ) {
        let before = self.made_way.get(&key).copied();
        let Some(before) = before.filter(|before| in_view(before.0)) else {
            return;
        };
        if !replaced {
            self.fail(format!(
                "{before:?} was ended for the login of {user} at {key:?}, which replaced none"
            ));
        }
        if self.closing.contains_key(&before) {
            self.fail(format!(
                "{before:?} was ended for the login of {user} at {key:?}, which is not late, and its callbacks run"
            ));
        }
    }

    /// A login has got a claim.
    pub(super) fn claims(&mut self, user: &UserId, key: Key, claim: u64) {
        let logins = self.logins.entry(user.clone()).or_default();
        if let Some(login) = logins.get_mut(&key) {
            login.claim = Some(claim);
        }
    }

    /// A login has been granted at a gate in a view.
    pub(super) fn granted(&mut self, user: &UserId, key: Key, (replaced, late): (bool, bool)) {
        self.granted += 1;
        let logins = self.logins.entry(user.clone()).or_default();
        if let Some(login) = logins.get_mut(&key) {
            login.in_view = true;
        }
        self.took_over += usize::from(replaced);
        let unfinished = self.unfinished.entry(user.clone()).or_default();
        let others: Vec<_> = unfinished
            .iter()
            .filter(|other| **other != key)
            .copied()
            .collect();
        if late {
            unfinished.clear();
        } else if !others.is_empty() {
            self.fail(format!(
                "user {user} at {key:?}: close callbacks of {others:?} still run"
            ));
        }
        let unfinished = self.unfinished.entry(user.clone()).or_default();
        unfinished.retain(|other| *other != key);
        unfinished.push(key);
    }

    /// The close callbacks of a session begin to run. Returns `false` if they run already.
    pub(super) fn closing(&mut self, key: Key, now: Instant) -> bool {
        let is_new = !self.closing.contains_key(&key);
        self.ended(|ended| *ended == key, now);
        self.closing.entry(key).or_insert(now);
        is_new
    }

    /// No login has to wait for close callbacks beyond their deadline.
    pub(super) fn pass(&mut self, now: Instant) {
        let closing = &self.closing;
        let late = |key: &Key| {
            let since = closing.get(key);
            since.is_some_and(|since| now.duration_since(*since) >= CALLBACK_TIMEOUT)
        };
        let unfinished = self.unfinished.values_mut();
        unfinished.for_each(|keys| keys.retain(|key| !late(key)));
    }

    /// No login has to wait for some sessions: their gates have lost the cluster.
    pub(super) fn forget(&mut self, lost: impl Fn(&Key) -> bool) {
        self.unfinished
            .values_mut()
            .for_each(|keys| keys.retain(|key| !lost(key)));
    }

    /// The close callbacks of a session have run.
    pub(super) fn finished(&mut self, key: Key) {
        self.closing.remove(&key);
        self.unfinished
            .values_mut()
            .for_each(|keys| keys.retain(|other| *other != key));
    }

    /// A gate may have been evicted: the owners may not know yet what it has ended.
    pub(super) fn lapsed(&mut self, process: u64) {
        self.made_way.retain(|_, before| before.0 != process);
    }

    /// A process is gone with all its sessions.
    pub(super) fn stopped(&mut self, process: u64, now: Instant) {
        self.ended(|ended| ended.0 == process, now);
        self.closing.retain(|(of, _), _| *of != process);
        self.gone(process);
    }

    /// A process is gone, or has given up its claims.
    pub(super) fn gone(&mut self, process: u64) {
        self.lapsed(process);
        self.unfinished
            .values_mut()
            .for_each(|keys| keys.retain(|other| other.0 != process));
    }
}
