//! A node with tables.

use std::{collections::HashMap, sync::Arc, time::Duration};

use nano::{
    App, Cluster, Component, Error, Handle, Handlers, Options, Result, Session, Timer, Unique, code,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    game::Game,
    lobby::{Over, TABLE, account},
};

pub(crate) fn app(master: &str, name: &'static str, turn: Duration) -> App {
    let tables = Tables {
        name,
        turn,
        tables: Mutex::default(),
    };
    App::new()
        .cluster(Cluster::join([master]).listen("127.0.0.1:0").label(name))
        .component_with(tables, Options::new().name("Table"))
        .unique_users(Unique::Replace)
}

struct Tables {
    /// What the node is called.
    name: &'static str,
    /// The time for a turn.
    turn: Duration,
    /// All handlers and timers run on the node's scheduler, one at a time. The lock is never
    /// contended.
    tables: Mutex<HashMap<u64, Table>>,
}

#[derive(Default)]
struct Table {
    seats: Vec<Player>,
    game: Option<Game>,
    /// When the turn ends, and what ends it.
    turn: Option<(Instant, Timer)>,
}

struct Player {
    account: String,
    session: Session,
}

#[derive(Deserialize)]
struct Play {
    card: u8,
}

/// What one player sees of a table.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    table: u64,
    node: &'a str,
    hand: &'a [u8],
    you: Side<'a>,
    /// `None` until a second player sits there.
    other: Option<Side<'a>>,
    your_turn: bool,
    /// Milliseconds.
    time_left: u128,
    turn_time: u128,
    won: Option<bool>,
}

#[derive(Serialize)]
struct Side<'a> {
    name: &'a str,
    cards: usize,
    tricks: usize,
    played: Option<u8>,
    last: Option<u8>,
}

impl Component for Tables {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Sit", Self::sit).on("Play", Self::play)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let tables = self.clone();
        node.on_session_closed(move |session, _| tables.left(session));
        Ok(())
    }
}

impl Tables {
    /// Takes the seat that the lobby has given to the player, the first time or again. Answers with
    /// a push `onTable`, as everything that happens at a table does.
    fn sit(self: &Arc<Self>, session: &Session, (): ()) -> Result<bool> {
        let (id, account) = (seat(session)?, account(session)?);
        let node = session.node()?;
        let mut tables = self.tables.lock();
        let table = tables.entry(id).or_default();
        let own = table
            .seats
            .iter()
            .position(|player| player.account == account);
        match own {
            Some(seat) => table.seats[seat].session = session.clone(),
            None if table.seats.len() < 2 => table.seats.push(Player {
                account,
                session: session.clone(),
            }),
            None => return Err(Error::new(code::CONFLICT, "this table is full")),
        }
        if table.seats.len() == 2 && table.game.is_none() {
            table.game = Some(Game::deal());
            table.turn = Some(self.next_turn(id, &node)?);
        }
        self.show(id, table);
        Ok(true)
    }

    fn play(self: &Arc<Self>, session: &Session, Play { card }: Play) -> Result<bool> {
        let (id, account) = (seat(session)?, account(session)?);
        let node = session.node()?;
        self.advance(id, &node, |table| {
            let seat = table
                .seats
                .iter()
                .position(|player| player.account == account);
            let played = seat
                .zip(table.game.as_mut())
                .is_some_and(|(seat, game)| game.play(seat, card));
            played
                .then_some(())
                .ok_or_else(|| Error::new(code::CONFLICT, "not now, or not this card"))
        })?;
        Ok(true)
    }

    /// Makes a move, shows the table to both, and begins the next turn.
    fn advance(
        self: &Arc<Self>,
        id: u64,
        node: &Handle,
        make_move: impl FnOnce(&mut Table) -> Result,
    ) -> Result {
        let mut tables = self.tables.lock();
        let table = tables
            .get_mut(&id)
            .ok_or_else(|| Error::new(code::NOT_FOUND, "this game is over"))?;
        make_move(table)?;
        if let Some((_, timer)) = table.turn.take() {
            timer.stop();
        }
        let over = table
            .game
            .as_ref()
            .is_some_and(|game| game.winner().is_some());
        if !over {
            table.turn = Some(self.next_turn(id, node)?);
        }
        match over {
            true => tables
                .remove(&id)
                .map_or(Ok(()), |table| self.close(id, table, node)),
            false => {
                self.show(id, table);
                Ok(())
            }
        }
    }

    /// Ends a game: the players see it once the lobby can give them seats at another table.
    fn close(self: &Arc<Self>, id: u64, table: Table, node: &Handle) -> Result {
        let (tables, lobby) = (self.clone(), node.call("Lobby.Over"));
        node.scheduler().spawn(async move {
            if let Err(error) = lobby.json::<bool, _>(&Over { table: id }).await {
                tracing::warn!(id, %error, "the lobby has not heard that a game is over");
            }
            tables.show(id, &table);
        })?;
        Ok(())
    }

    /// Runs when a session has ended. A table without a game is given up.
    fn left(&self, session: &Session) {
        self.tables.lock().retain(|_, table| {
            table.game.is_some() || table.seats.iter().all(|player| player.session != *session)
        });
    }

    /// A player who takes too long plays the lowest card, also one who is away.
    fn next_turn(self: &Arc<Self>, id: u64, node: &Handle) -> Result<(Instant, Timer)> {
        let (tables, of) = (self.clone(), node.clone());
        let timer = node.scheduler().delay(self.turn, move || {
            let played = tables.advance(id, &of, |table| {
                if let Some(game) = &mut table.game {
                    game.play_lowest();
                }
                Ok(())
            });
            if let Err(error) = played {
                tracing::warn!(id, %error, "game is stuck");
            }
        })?;
        Ok((Instant::now() + self.turn, timer))
    }

    fn show(&self, id: u64, table: &Table) {
        for (seat, player) in table.seats.iter().enumerate() {
            // One who is away keeps the session, and gets all of it on return; one who has left
            // sees the table after the next login.
            let _ = player.session.push("onTable", &self.view(id, table, seat));
        }
    }

    fn view<'a>(&'a self, id: u64, table: &'a Table, seat: usize) -> View<'a> {
        let game = table.game.as_ref();
        let side = |seat: usize| {
            let player = table.seats.get(seat)?;
            Some(Side {
                name: &player.account,
                cards: game.map_or(0, |game| game.hands[seat].len()),
                tricks: game.map_or(0, |game| game.tricks[seat]),
                played: game.and_then(|game| game.played[seat]),
                last: game.and_then(|game| game.last[seat]),
            })
        };
        let winner = game.and_then(Game::winner);
        let left = table.turn.as_ref().map_or(Duration::ZERO, |(ends, _)| {
            ends.saturating_duration_since(Instant::now())
        });
        View {
            table: id,
            node: self.name,
            hand: game.map_or(&[], |game| &game.hands[seat]),
            you: side(seat).unwrap_or(Side {
                name: "",
                cards: 0,
                tricks: 0,
                played: None,
                last: None,
            }),
            other: side(1 - seat),
            your_turn: winner.is_none() && game.is_some_and(|game| game.turn == seat),
            time_left: left.as_millis(),
            turn_time: self.turn.as_millis(),
            won: winner.map(|winner| winner == seat),
        }
    }
}

/// The table at which the lobby has given the player a seat.
fn seat(session: &Session) -> Result<u64> {
    let table = session.shared().get(TABLE)?;
    table.ok_or_else(|| Error::new(code::FORBIDDEN, "the lobby gives you a seat"))
}
