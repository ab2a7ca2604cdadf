//! Which of several members serves a session.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    cluster::stable_hash::{fnv1a, mix},
    error::Result,
    member::Member,
    session::{Session, UserId},
};

type Key = Arc<dyn Fn(&Session) -> u64 + Send + Sync>;

/// Which member that has a service gets a session's messages. Decided with the first message of the
/// session for the service; then the session is bound to that member ([`Session::router`]) until it
/// leaves.
///
/// ```
/// use nano::{Balance, Cluster};
///
/// // The members of a guild meet on one node.
/// let cluster = Cluster::join(["10.0.0.1:34567"])
///     .balance(Balance::key(|session| session.value_or_default::<u64>("guild")));
/// # let _ = cluster;
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Balance {
    /// Any, as in nano.
    #[default]
    Random,
    /// One after the other.
    RoundRobin,
    /// The one that serves the fewest sessions of this gate.
    LeastLoaded,
    /// Always the same for one user, whatever the gate; when a member joins or leaves few users move.
    /// Sessions without a user are taken by their id.
    Uid,
    /// The same for a key of the application's.
    Key(Key),
}

impl Balance {
    /// Always the same member for one key: of a guild, of a room.
    pub fn key(key: impl Fn(&Session) -> u64 + Send + Sync + 'static) -> Self {
        Self::Key(Arc::new(key))
    }
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "Random",
            Self::RoundRobin => "RoundRobin",
            Self::LeastLoaded => "LeastLoaded",
            Self::Uid => "Uid",
            Self::Key(_) => "Key(..)",
        })
    }
}

/// An application's own choice: the session, the service, who has it.
pub(crate) type RouteFn =
    Arc<dyn Fn(&Session, &str, &[Member]) -> Result<Option<Member>> + Send + Sync>;

/// The policy at work.
#[derive(Default)]
pub(super) struct Balancer {
    policy: Balance,
    turn: AtomicUsize,
}

impl Balancer {
    pub(super) fn new(policy: Balance) -> Self {
        Self {
            policy,
            turn: AtomicUsize::new(0),
        }
    }

    /// The place of the chosen one among the candidates, if there are any; each is given by its
    /// address and its load.
    pub(super) fn choose(
        &self,
        session: Option<&Session>,
        candidates: &[(&str, usize)],
    ) -> Option<usize> {
        let count = candidates.len();
        if count < 2 {
            return count.checked_sub(1);
        }
        let key = match (&self.policy, session) {
            (Balance::Random, _) | (Balance::Uid | Balance::Key(_), None) => {
                return Some(rand::random_range(0..count));
            }
            (Balance::RoundRobin, _) => {
                return Some(self.turn.fetch_add(1, Ordering::Relaxed) % count);
            }
            (Balance::LeastLoaded, _) => return (0..count).min_by_key(|at| candidates[*at].1),
            (Balance::Uid, Some(session)) => session_key(session),
            (Balance::Key(key), Some(session)) => key(session),
        };
        // Rendezvous hashing: a member that joins takes over only the keys it scores highest for.
        (0..count).max_by_key(|at| rendezvous_score(key, candidates[*at].0))
    }
}

/// Scores a member for a key; the highest score wins.
///
/// Every gate must compute the same score, whatever its release of Rust or of this crate, so the
/// function is written down here: 64-bit FNV-1a of the address, combined with the [mixed](mix) key,
/// mixed again.
pub(crate) fn rendezvous_score(key: u64, address: &str) -> u64 {
    mix(fnv1a(address.as_bytes()) ^ mix(key))
}

/// The key of a session for [`Balance::Uid`].
fn session_key(session: &Session) -> u64 {
    let user = session.user();
    user.map_or(session.id().cast_unsigned(), |user| user_key(&user))
}

/// The key of a user: the number, or the hash of the text.
pub(in crate::cluster) fn user_key(user: &UserId) -> u64 {
    match (user.number(), user.text()) {
        (Some(number), _) => number.cast_unsigned(),
        (None, text) => fnv1a(text.unwrap_or_default().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock;

    const NODES: [(&str, usize); 4] = [("a:1", 3), ("b:1", 1), ("c:1", 2), ("d:1", 1)];

    fn chosen(
        policy: Balance,
        uids: impl Iterator<Item = i64>,
        nodes: &[(&str, usize)],
    ) -> Vec<usize> {
        let balancer = Balancer::new(policy);
        let session = |uid| {
            let (session, _) = mock::session();
            session.bind(uid).unwrap();
            session
        };
        uids.map(|uid| balancer.choose(Some(&session(uid)), nodes).unwrap())
            .collect()
    }

    #[test]
    fn no_member_is_chosen_of_none_and_the_only_one_of_one() {
        assert_eq!(Balancer::default().choose(None, &[]), None);
        assert_eq!(Balancer::default().choose(None, &NODES[..1]), Some(0));
    }

    #[test]
    fn round_robin_takes_turns() {
        assert_eq!(
            chosen(Balance::RoundRobin, 1..=6, &NODES),
            [0, 1, 2, 3, 0, 1]
        );
    }

    #[test]
    fn least_loaded_takes_the_first_of_the_least() {
        assert_eq!(chosen(Balance::LeastLoaded, 1..=1, &NODES), [1]);
    }

    #[test]
    fn random_reaches_every_member() {
        let mut chosen = chosen(Balance::Random, 1..=200, &NODES);
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen, [0, 1, 2, 3]);
    }

    #[test]
    fn a_uid_moves_only_when_its_member_leaves() {
        let before = chosen(Balance::Uid, 1..=400, &NODES);
        let after = chosen(Balance::Uid, 1..=400, &NODES[..3]);
        for (before, after) in before.iter().zip(&after) {
            assert!(
                before == after || *before == 3,
                "moved from {before} to {after}"
            );
        }
        assert!(
            (0..4).all(|node| before.iter().filter(|at| **at == node).count() > 60),
            "not spread: {before:?}"
        );
    }

    /// Gates of different builds must agree, so these values never change.
    #[test]
    fn rendezvous_scores_and_choices_are_pinned() {
        for (key, address, score) in [
            (0, "10.0.0.1:7000", 0x280F_E37C_0E1C_5010),
            (0, "a:1", 0x0EDF_D5E7_0FF8_66BC),
            (1, "a:1", 0xE40A_8676_F230_3D6C),
            (42, "10.0.0.1:7000", 0x1C0A_8050_98A2_128A),
            (u64::MAX, "a:1", 0xF61D_0030_E165_5F77),
        ] {
            assert_eq!(rendezvous_score(key, address), score, "{key} {address}");
        }
        assert_eq!(
            chosen(Balance::Uid, 1..=16, &NODES),
            [2, 3, 1, 2, 1, 2, 1, 1, 0, 3, 1, 3, 2, 3, 1, 1]
        );
    }

    #[test]
    fn a_key_decides_alone() {
        let same = chosen(Balance::key(|_| 7), 1..=50, &NODES);
        assert!(same.iter().all(|at| *at == same[0]));
    }
}
