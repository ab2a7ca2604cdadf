//! The lobby: who is here, and who plays at which table.

use std::{collections::HashMap, sync::Arc};

use nano::{
    App, CloseReason, Cluster, Component, Error, Handle, Handlers, Member, Result, Session, code,
    kick::Kick,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::gate::Announcement;

/// Under these keys all nodes find the player's account, and the table at which there is a seat.
pub(crate) const ACCOUNT: &str = "account";
pub(crate) const TABLE: &str = "table";

/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;

pub(crate) fn app(master: &str, password: Option<String>) -> App {
    let lobby = Lobby {
        password,
        state: Mutex::default(),
    };
    App::new()
        .cluster(Cluster::join([master]).listen("127.0.0.1:0").label("lobby"))
        .component(lobby)
}

struct Lobby {
    password: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The session of each account.
    online: HashMap<String, Session>,
    /// Where each account has a seat.
    seats: HashMap<String, Seat>,
    /// The account that waits for another one, at its table.
    waiting: Option<String>,
    last_table: u64,
}

#[derive(Clone)]
struct Seat {
    table: u64,
    /// The node that has the table.
    address: String,
}

#[derive(Deserialize)]
struct Login {
    account: String,
}

#[derive(Serialize)]
struct Welcome {
    /// Whether a game of this account goes on.
    playing: bool,
}

#[derive(Deserialize)]
struct Announce {
    password: String,
    text: String,
}

/// A game is over.
#[derive(Deserialize, Serialize)]
pub(crate) struct Over {
    pub(crate) table: u64,
}

impl Component for Lobby {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Login", Self::login)
            .on("Play", Self::play)
            .on("Announce", Self::announce)
            .on("Over", Self::over)
            .internal()
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let lobby = self.clone();
        node.on_session_closed(move |session, reason| lobby.left(session, reason));
        Ok(())
    }
}

impl Lobby {
    /// Takes an account, from an older session if there is one. A real game would ask for more than
    /// a name.
    fn login(&self, session: &Session, Login { account }: Login) -> Result<Welcome> {
        if account.is_empty() || account.len() > LONGEST_NAME {
            return Err(Error::new(code::BAD_REQUEST, "a name has 1 to 64 bytes"));
        }
        if session.shared().get::<String>(ACCOUNT)?.is_some() {
            return Err(Error::new(code::CONFLICT, "logged in already"));
        }
        session.shared().set(ACCOUNT, &account)?;
        let (older, playing) = {
            let mut state = self.state.lock();
            let older = state.online.insert(account.clone(), session.clone());
            let playing =
                state.seats.contains_key(&account) && state.waiting.as_ref() != Some(&account);
            (older, playing)
        };
        if let Some(older) = older {
            older.kick_with(Kick::new("REPLACED", "you play in another window now"));
        }
        Ok(Welcome { playing })
    }

    /// Gives the player a seat: the one of a game that goes on, one opposite a player who waits, or
    /// one at a new table. The messages of the session for `Table` go to the node of that table.
    fn play(&self, session: &Session, (): ()) -> Result<bool> {
        let account = account(session)?;
        let members = session.node()?.members();
        let mut nodes: Vec<_> = members.iter().filter(|node| has_tables(node)).collect();
        nodes.sort_by_key(|node| node.address());
        let seat = self.state.lock().seat(&account, &nodes)?;
        session.shared().set(TABLE, &seat.table)?;
        session.router().bind("Table", &seat.address)?;
        Ok(true)
    }

    /// Pushes news to all players of all gates; answers how many there are.
    async fn announce(self: Arc<Self>, session: Session, request: Announce) -> Result<usize> {
        if self.password.as_ref() != Some(&request.password) {
            return Err(Error::new(code::FORBIDDEN, "wrong password"));
        }
        let news = Announcement { text: request.text };
        let gates = session.node()?.call_all("News.Announce");
        let reached = gates.json::<usize, _>(&news).await?;
        Ok(reached
            .into_iter()
            .filter_map(|(_, count)| count.ok())
            .sum())
    }

    fn over(&self, _: &Session, Over { table }: Over) -> Result<bool> {
        self.state
            .lock()
            .seats
            .retain(|_, seat| seat.table != table);
        Ok(true)
    }

    /// Runs when a session has ended. A seat stays: its player may come back.
    fn left(&self, session: &Session, _: &CloseReason) {
        let Ok(account) = account(session) else {
            return;
        };
        let mut state = self.state.lock();
        // It may belong to a newer session by now.
        if state.online.get(&account) != Some(session) {
            return;
        }
        state.online.remove(&account);
        if state.waiting.as_ref() == Some(&account) {
            state.waiting = None;
            state.seats.remove(&account);
        }
    }
}

impl State {
    fn seat(&mut self, account: &str, nodes: &[&Member]) -> Result<Seat> {
        let alive = |seat: &Seat| nodes.iter().any(|node| node.address() == seat.address);
        // The games of a node that died are lost.
        self.seats.retain(|_, seat| alive(seat));
        if let Some(seat) = self.seats.get(account) {
            return Ok(seat.clone());
        }
        let opposite = self
            .waiting
            .take()
            .and_then(|other| self.seats.get(&other).cloned());
        let seat = match opposite {
            Some(seat) => seat,
            None => {
                self.last_table += 1;
                let table = self.last_table;
                let away = || Error::new(code::UNAVAILABLE, "there are no tables now");
                let node = nodes
                    .get(table as usize % nodes.len().max(1))
                    .ok_or_else(away)?;
                self.waiting = Some(account.to_owned());
                Seat {
                    table,
                    address: node.address().to_owned(),
                }
            }
        };
        self.seats.insert(account.to_owned(), seat.clone());
        Ok(seat)
    }
}

/// The account of a player who has logged in.
pub(crate) fn account(session: &Session) -> Result<String> {
    let account = session.shared().get(ACCOUNT)?;
    account.ok_or_else(|| Error::new(code::FORBIDDEN, "log in first"))
}

fn has_tables(node: &Member) -> bool {
    node.services().iter().any(|service| service == "Table")
}
