//! Two nodes with a room each, and a gate that chooses by uid: all devices of one player come to
//! the same room.
//!
//! ```text
//! cargo run --example custom_route                      # shows it, and then waits for more clients
//! cargo run --example custom_route -- 127.0.0.1:8080    # somewhere else
//! ```
//!
//! All three nodes are in this process. In nodes of their own they would have other addresses, and
//! nothing else would change.

use std::env;

use nano::{
    App, Cluster, Component, Error, Handlers, LogFormat, Logs, Member, Node, Result, Session,
    client::Client, code,
};
use serde::{Deserialize, Serialize};

#[tokio::main]
async fn main() -> Result {
    Logs::start("warn", LogFormat::Text)?;
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3252".to_owned());
    let nodes = start(&address).await?;
    let [gate, red, blue] = &nodes;
    let url = format!("tcp://{}", gate.addresses()[0]);
    for uid in 1..=6 {
        let (phone, laptop) = (room_of(&url, uid).await?, room_of(&url, uid).await?);
        println!("player {uid}: the phone is in {phone}, the laptop in {laptop}");
    }
    println!("clients connect at {url}; Ctrl-C stops everything");
    // A signal stops one node, which stops the others. The master goes last, so that the others can
    // unregister.
    red.run().await?;
    blue.shutdown().await;
    gate.shutdown().await;
    Ok(())
}

/// The gate, which is the master as well, and two nodes with a room.
pub(crate) async fn start(address: &str) -> Result<[Node; 3]> {
    let gate = App::new()
        .component(Gate)
        .cluster(
            Cluster::master()
                .listen("127.0.0.1:0")
                .select_member(by_uid),
        )
        .tcp(address)
        .start()
        .await?;
    let master = gate.handle().member().map_or("", Member::address);
    let room = |name| {
        App::new()
            .component(Room { name })
            .cluster(Cluster::join([master]).listen("127.0.0.1:0").label(name))
            .start()
    };
    let (red, blue) = (room("red").await?, room("blue").await?);
    Ok([gate, red, blue])
}

/// Chooses a room's member by user id. Called once per session and service: the session stays
/// bound to that member until it leaves.
///
/// With another number of nodes most players would move: where that matters, [`nano::Balance::Uid`]
/// moves as few as can be.
fn by_uid(session: &Session, _service: &str, members: &[Member]) -> Result<Option<Member>> {
    let uid = usize::try_from(session.uid())?;
    if uid == 0 {
        return Err(Error::new(code::FORBIDDEN, "log in first"));
    }
    Ok(members.get(uid % members.len()).cloned())
}

/// Knows who is who: on the gate, so that the route function does.
struct Gate;

#[derive(Deserialize, Serialize)]
struct Login {
    uid: i64,
}

impl Component for Gate {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Login", Self::login)
    }
}

impl Gate {
    fn login(&self, session: &Session, Login { uid }: Login) -> Result<bool> {
        session.bind(uid)?;
        Ok(true)
    }
}

struct Room {
    name: &'static str,
}

#[derive(Deserialize, Serialize)]
struct Place {
    room: String,
    /// As the room knows it: what is bound at the gate is known everywhere.
    uid: i64,
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Where", Self::place)
    }
}

impl Room {
    fn place(&self, session: &Session, (): ()) -> Result<Place> {
        Ok(Place {
            room: self.name.to_owned(),
            uid: session.uid(),
        })
    }
}

/// One device of a player.
async fn room_of(url: &str, uid: i64) -> Result<String> {
    let device = Client::connect(url).await?;
    let _: bool = device.request("Gate.Login", &Login { uid }).await?;
    let Place { room, .. } = device.request("Room.Where", &()).await?;
    Ok(room)
}
