//! The lobby: who is here, and who plays at which table.

use std::{collections::HashMap, sync::Arc};

use nano::{
    App, Cluster, Component, Error, Handle, Handlers, Member, Result, Session, Unique, code,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Under this key all nodes find the table at which a session has a seat.
pub(crate) const TABLE: &str = "table";

pub(crate) fn app(master: &str, password: Option<String>) -> App {
    let lobby = Lobby {
        password,
        state: Mutex::default(),
    };
    App::new()
        .cluster(Cluster::join([master]).listen("127.0.0.1:0").label("lobby"))
        .component(lobby)
        .unique_users(Unique::Replace)
}

struct Lobby {
    password: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
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

/// What all players see.
#[derive(Serialize)]
struct News {
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
            .sequential()
            .on("Play", Self::play)
            .on("Announce", Self::announce)
            .on("Over", Self::over)
            .internal()
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let lobby = self.clone();
        node.on_session_closed(move |session, _| lobby.left(session));
        Ok(())
    }
}

impl Lobby {
    /// Takes an account, from an older session if there is one: that one is kicked. A real game
    /// would ask for more than a name.
    async fn login(self: Arc<Self>, session: Session, Login { account }: Login) -> Result<Welcome> {
        if session.user().is_some() {
            return Err(Error::new(code::CONFLICT, "logged in already"));
        }
        session.login(&*account).await?;
        let playing = self.state.lock().seats.contains_key(&account);
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

    /// Pushes news to all players of all gates. Answers whether all gates could be reached.
    fn announce(&self, session: &Session, Announce { password, text }: Announce) -> Result<bool> {
        if self.password.as_ref() != Some(&password) {
            return Err(Error::new(code::FORBIDDEN, "wrong password"));
        }
        let missed = session.node()?.broadcast("onNews", &News { text })?;
        Ok(missed.is_empty())
    }

    fn over(&self, _: &Session, Over { table }: Over) -> Result<bool> {
        self.state
            .lock()
            .seats
            .retain(|_, seat| seat.table != table);
        Ok(true)
    }

    /// Runs when a session has ended, before the next one of its account begins. The seat at a game
    /// stays: its player may come back.
    fn left(&self, session: &Session) {
        let Ok(account) = account(session) else {
            return;
        };
        let mut state = self.state.lock();
        if state
            .waiting
            .take_if(|waiting| *waiting == account)
            .is_some()
        {
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
    let user = session.user();
    let account = user.as_ref().and_then(|user| user.text());
    account
        .map(str::to_owned)
        .ok_or_else(|| Error::new(code::FORBIDDEN, "log in first"))
}

fn has_tables(node: &Member) -> bool {
    node.services().iter().any(|service| service == "Table")
}
