//! One desk: a task of its own that plays, with a bounded mailbox between it and the handlers.

use std::sync::Arc;

use nano::{Error, Group, Result, Timer, code};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::world::{Player, World};

/// What a player does at a desk.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Deal,
    Discard { uid: i64, card: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Playing,
    Paused,
    Dissolved,
}

/// The cards of one player; one value is filled anew for each of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Hand {
    #[serde(rename = "acId")]
    pub(crate) uid: i64,
    pub(crate) cards: Vec<u32>,
}

/// A card that no hand holds: to discard it is a bug in the rules, and they panic.
pub(crate) const IMPOSSIBLE: u32 = 999;

pub(crate) struct Desk {
    pub(crate) number: u32,
    pub(crate) group: Group,
    pub(crate) countdown: Mutex<Option<Timer>>,
    seats: Mutex<Vec<(Arc<Player>, bool)>>,
    mailbox: mpsc::Sender<Operation>,
    phase: watch::Sender<Phase>,
}

impl Desk {
    /// A desk and its task.
    pub(crate) fn open(number: u32, world: Arc<World>) -> Arc<Self> {
        let (mailbox, operations) = mpsc::channel(1);
        let desk = Arc::new(Self {
            number,
            group: Group::new(format!("desk {number}")),
            countdown: Mutex::new(None),
            seats: Mutex::default(),
            mailbox,
            phase: watch::Sender::new(Phase::Playing),
        });
        tokio::spawn(desk.clone().run(operations, world));
        desk
    }

    pub(crate) fn take_seat(&self, player: &Arc<Player>) -> Result<Vec<i64>> {
        let mut seats = self.seats.lock();
        if seats.len() == 4 {
            return Err(Error::new("DESK-FULL", "all seats are taken"));
        }
        seats.push((player.clone(), false));
        Ok(seats.iter().map(|(player, _)| player.uid).collect())
    }

    pub(crate) fn players(&self) -> Vec<i64> {
        self.seats
            .lock()
            .iter()
            .map(|(player, _)| player.uid)
            .collect()
    }

    /// Notes that a player is ready; true when all four are.
    pub(crate) fn ready(&self, uid: i64) -> bool {
        let mut seats = self.seats.lock();
        for (player, ready) in seats.iter_mut() {
            *ready |= player.uid == uid;
        }
        seats.len() == 4 && seats.iter().all(|(_, ready)| *ready)
    }

    /// Puts an operation into the mailbox, now or never: a handler must not wait for a desk.
    pub(crate) fn operate(&self, operation: Operation) -> Result {
        self.mailbox
            .try_send(operation)
            .map_err(|_| Error::new(code::TOO_MANY, "the desk is busy"))
    }

    pub(crate) fn pause(&self, pause: bool) {
        self.phase
            .send_replace(if pause { Phase::Paused } else { Phase::Playing });
    }

    pub(crate) fn dissolve(&self) {
        self.phase.send_replace(Phase::Dissolved);
    }

    async fn run(self: Arc<Self>, mut operations: mpsc::Receiver<Operation>, world: Arc<World>) {
        while let Some(operation) = self.next(&mut operations).await {
            // A task for each operation, so that its panic is not the end of the desk.
            if let Err(panic) = tokio::spawn(self.clone().play(operation)).await {
                assert!(panic.is_panic());
                self.group
                    .broadcast("onDeskError", &json!({ "deskNo": self.number }))
                    .unwrap();
            }
        }
        self.group
            .broadcast("onDissolved", &json!({ "deskNo": self.number }))
            .unwrap();
        self.group.close().unwrap();
        let seats = std::mem::take(&mut *self.seats.lock());
        let node = world.node().clone();
        // The maps are the logic thread's.
        let remove = move || {
            seats.iter().for_each(|(player, _)| player.sit(None));
            world.remove_desk(self.number);
        };
        node.push_task(remove).unwrap();
    }

    /// The next operation; none while the desk is paused, and no more when it is dissolved.
    async fn next(&self, operations: &mut mpsc::Receiver<Operation>) -> Option<Operation> {
        let mut phase = self.phase.subscribe();
        loop {
            let now = *phase.borrow_and_update();
            tokio::select! {
                biased;
                () = async {}, if now == Phase::Dissolved => return None,
                _ = phase.changed() => {}
                operation = operations.recv(), if now == Phase::Playing => return operation,
            }
        }
    }

    async fn play(self: Arc<Self>, operation: Operation) {
        match operation {
            Operation::Deal => {
                let players: Vec<_> = self
                    .seats
                    .lock()
                    .iter()
                    .map(|(player, _)| player.clone())
                    .collect();
                let mut hand = Hand::default();
                for (seat, player) in (0..).zip(players) {
                    hand.uid = player.uid;
                    hand.cards.clear();
                    hand.cards.extend([seat * 10 + 1, seat * 10 + 2]);
                    player.session().push("onDeal", &hand).unwrap();
                }
                // Had the pushes not been written where they were made, all players would see this.
                hand.cards.clear();
            }
            Operation::Discard {
                card: IMPOSSIBLE, ..
            } => panic!("impossible card"),
            Operation::Discard { uid, card } => {
                self.group
                    .broadcast("onDiscard", &json!({ "acId": uid, "card": card }))
                    .unwrap();
            }
        }
    }
}
