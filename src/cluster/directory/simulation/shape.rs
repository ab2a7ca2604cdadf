//! How large a schedule is, and how long.

use std::{collections::BTreeSet, ops::Range, sync::LazyLock, time::Duration};

use rand::{RngExt, rngs::StdRng};

use super::injection::KINDS;
use crate::{
    cluster::directory::slots::{SLOTS, slot_of},
    session::UserId,
};

/// What a seed plays. What goes wrong goes wrong with few nodes and users, in a short time; so most
/// schedules are small, and many can be played.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) nodes: usize,
    /// How many slots there are. The users are in these.
    pub(super) slots: u16,
    pub(super) users: Vec<UserId>,
    /// When faults begin, and when they end.
    pub(super) faults: Range<Duration>,
    /// Which faults happen. Some are found with few kinds only: others heal what they break.
    pub(super) kinds: Vec<usize>,
    /// How long clients go on after the last fault, and how long all may take to settle.
    pub(super) calm: (Duration, Duration),
    /// Whether owners and gates must agree in the end: they have the time for it.
    pub(super) settles: bool,
    /// The pauses between two faults, between two acts of clients, and how long a fault lasts, all in
    /// milliseconds.
    pub(super) fault_pause: Range<u64>,
    pub(super) client_pause: Range<u64>,
    pub(super) fault_length: Range<u64>,
}

/// The slots of a small schedule and of a large one. One in 256 has all.
const SMALL: u16 = 8;
const LARGE: u16 = 64;

/// Users in the slots of a small schedule.
static USERS: LazyLock<Vec<UserId>> = LazyLock::new(|| {
    let users = (1..).map(UserId::from);
    users
        .filter(|user| slot_of(user) < SMALL)
        .take(24)
        .collect()
});

impl Shape {
    pub(super) fn of(seed: u64, random: &mut StdRng) -> Self {
        match seed % 256 {
            0 => Self::large(SLOTS as u16, random),
            other if other % 16 == 0 => Self::large(LARGE, random),
            _ => Self::small(random),
        }
    }

    fn small(random: &mut StdRng) -> Self {
        let settles = random.random_ratio(1, 4);
        let quiet = random.random_ratio(1, 2);
        let seconds = Duration::from_secs;
        let mut users = BTreeSet::new();
        let count = random.random_range(1..4);
        while users.len() < count {
            users.insert(random.random_range(0..USERS.len()));
        }
        Self {
            nodes: random.random_range(3..6),
            slots: SMALL,
            users: users.into_iter().map(|at| USERS[at].clone()).collect(),
            faults: seconds(5)..seconds(14),
            calm: match (settles, quiet) {
                // No client comes to the help of what is left behind.
                (true, true) => (Duration::ZERO, seconds(32)),
                (true, false) => (seconds(9), seconds(30)),
                (false, _) => (seconds(4), seconds(6)),
            },
            settles,
            kinds: some_kinds(random),
            fault_pause: 50..1600,
            client_pause: 20..340,
            fault_length: 100..8000,
        }
    }

    fn large(slots: u16, random: &mut StdRng) -> Self {
        let users = (1..).map(UserId::from);
        let users = users.filter(|user| slot_of(user) < slots).take(5);
        let seconds = Duration::from_secs;
        Self {
            nodes: random.random_range(3..7),
            slots,
            users: users.collect(),
            faults: seconds(5)..seconds(30),
            calm: (seconds(15), seconds(25)),
            settles: true,
            kinds: (0..KINDS).collect(),
            fault_pause: 100..4000,
            client_pause: 20..200,
            fault_length: 100..9000,
        }
    }
}

/// All kinds of faults in every second schedule, and some of them in the others.
fn some_kinds(random: &mut StdRng) -> Vec<usize> {
    let all = (0..KINDS).collect();
    if random.random_ratio(1, 2) {
        return all;
    }
    let some: Vec<_> = (0..KINDS).filter(|_| random.random_ratio(1, 3)).collect();
    if some.is_empty() { all } else { some }
}
