//! A scheduler for each room, so that a busy room delays no other.
//!
//! ```text
//! cargo run --example rooms                      # shows it, and then waits for more clients
//! cargo run --example rooms -- 127.0.0.1:8080    # somewhere else
//! ```

use std::{
    collections::HashMap,
    env,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use nano::{
    App, Component, Error, Group, Handle, Handlers, LogFormat, Logs, Options, Result, Scheduler,
    Session, client::Client, code,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Under which name sessions are pinned to the scheduler of their room, and where that room is
/// found.
const DESK: &str = "desk";
const ROOM: &str = "room";

#[tokio::main]
async fn main() -> Result {
    Logs::start("warn", LogFormat::Text)?;
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3253".to_owned());
    let node = app(&address).start().await?;
    let url = format!("tcp://{}", node.addresses()[0]);
    show(&url).await?;
    println!("clients connect at {url}; Ctrl-C stops it");
    node.run().await
}

/// `Lobby` runs where everything does, `Desk` wherever the session is pinned to.
pub(crate) fn app(address: &str) -> App {
    App::new()
        .component(Lobby::default())
        .component_with(Desk, Options::new().scheduler(DESK))
        .tcp(address)
}

struct Room {
    scheduler: Scheduler,
    group: Group,
    moves: Mutex<u32>,
}

/// Makes the rooms, and forgets those that are empty.
#[derive(Default)]
struct Lobby {
    node: OnceLock<Handle>,
    rooms: Mutex<HashMap<String, Arc<Room>>>,
}

#[derive(Deserialize, Serialize)]
struct Enter {
    room: String,
}

impl Component for Lobby {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Enter", Self::enter)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        self.node.get_or_init(|| node.clone());
        let lobby = self.clone();
        // On the same scheduler as `enter`, so no session enters a room while it is removed.
        node.on_session_closed(move |_, _| {
            lobby.rooms.lock().retain(|_, room| room.group.count() > 0)
        });
        Ok(())
    }
}

impl Lobby {
    /// How many are in the room.
    fn enter(&self, session: &Session, Enter { room: name }: Enter) -> Result<usize> {
        if session.has_key(ROOM) {
            return Err(Error::new(code::CONFLICT, "you are in a room already"));
        }
        let node = self
            .node
            .get()
            .ok_or_else(|| Error::new(code::UNAVAILABLE, "not started"))?;
        let new = || Room {
            scheduler: node.new_scheduler(&*name),
            group: Group::new(&name),
            moves: Mutex::default(),
        };
        let room = self
            .rooms
            .lock()
            .entry(name.clone())
            .or_insert_with(|| Arc::new(new()))
            .clone();
        room.group.add(session)?;
        session.pin(DESK, &room.scheduler);
        session.set(ROOM, room.clone());
        Ok(room.group.count())
    }
}

/// What one does in a room. Its handlers run one at a time in each room, and in all rooms at once.
struct Desk;

#[derive(Deserialize, Serialize)]
struct Move {
    /// How long the room thinks about it, in milliseconds.
    think: u64,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
struct Made {
    moves: u32,
}

impl Component for Desk {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Move", Self::make_move)
    }
}

impl Desk {
    fn make_move(&self, session: &Session, Move { think }: Move) -> Result<Made> {
        let room: Arc<Room> = session
            .value(ROOM)
            .ok_or_else(|| Error::new(code::FORBIDDEN, "enter a room first"))?;
        // As a real game would, with work that keeps the thread busy.
        thread::sleep(Duration::from_millis(think.min(5_000)));
        let moves = {
            let mut moves = room.moves.lock();
            *moves += 1;
            *moves
        };
        let made = Made { moves };
        room.group.broadcast("onMove", &made)?;
        Ok(made)
    }
}

/// One room thinks for a second. Another one, on the same node, does not wait for it.
async fn show(url: &str) -> Result {
    let (chess, go) = (player(url, "chess").await?, player(url, "go").await?);
    let begun = Instant::now();
    let thinking = tokio::spawn(async move {
        chess
            .request::<Made, _>("Desk.Move", &Move { think: 1000 })
            .await
    });
    for _ in 0..100 {
        let _: Made = go.request("Desk.Move", &Move { think: 0 }).await?;
    }
    println!("go: 100 moves after {:?}", begun.elapsed());
    let Made { moves } = thinking.await??;
    println!("chess: {moves} move after {:?}", begun.elapsed());
    Ok(())
}

async fn player(url: &str, room: &str) -> Result<Client> {
    let player = Client::connect(url).await?;
    let _: usize = player
        .request(
            "Lobby.Enter",
            &Enter {
                room: room.to_owned(),
            },
        )
        .await?;
    Ok(player)
}
