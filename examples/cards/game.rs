//! The rules. Two players hold five cards each. Whose turn it is plays one, then the other; the
//! higher card takes the trick, and who takes it plays first. Three tricks win.

use std::mem;

use rand::seq::SliceRandom;

/// The cards are the numbers from 1 to this one.
const DECK: u8 = 30;
/// How many cards a player gets.
const HAND: usize = 5;

pub(crate) struct Game {
    pub(crate) hands: [Vec<u8>; 2],
    pub(crate) tricks: [usize; 2],
    /// The cards of this trick.
    pub(crate) played: [Option<u8>; 2],
    /// Those of the one before.
    pub(crate) last: [Option<u8>; 2],
    /// The seat that plays next.
    pub(crate) turn: usize,
}

impl Game {
    pub(crate) fn deal() -> Self {
        let mut deck: Vec<u8> = (1..=DECK).collect();
        deck.shuffle(&mut rand::rng());
        let hand = |cards: &[u8]| {
            let mut hand = cards.to_vec();
            hand.sort_unstable();
            hand
        };
        Self {
            hands: [hand(&deck[..HAND]), hand(&deck[HAND..2 * HAND])],
            tricks: [0; 2],
            played: [None; 2],
            last: [None; 2],
            turn: 0,
        }
    }

    /// Plays a card; false if it is not this seat's turn, or it does not have the card.
    pub(crate) fn play(&mut self, seat: usize, card: u8) -> bool {
        let Some(at) = self.hands[seat].iter().position(|&own| own == card) else {
            return false;
        };
        if seat != self.turn || self.winner().is_some() {
            return false;
        }
        self.hands[seat].remove(at);
        self.played[seat] = Some(card);
        self.turn = 1 - seat;
        if let [Some(first), Some(second)] = self.played {
            let taker = usize::from(second > first);
            self.tricks[taker] += 1;
            self.last = mem::take(&mut self.played);
            self.turn = taker;
        }
        true
    }

    /// Plays for a player who takes too long.
    pub(crate) fn play_lowest(&mut self) {
        let seat = self.turn;
        if let Some(&card) = self.hands[seat].first() {
            self.play(seat, card);
        }
    }

    /// The seat that has won, once it has.
    pub(crate) fn winner(&self) -> Option<usize> {
        self.tricks.iter().position(|&tricks| tricks > HAND / 2)
    }
}
