//! A card game for two on four nodes: a gate, a lobby, and two nodes with tables.
//!
//! ```text
//! cargo run --example cards                              # then open http://127.0.0.1:3254/web/ in two windows
//! cargo run --example cards -- --admin secret            # with announcements, at http://127.0.0.1:3254/web/?admin=secret
//! cargo run --example cards -- --listen 0.0.0.0:8080     # somewhere else
//! ```
//!
//! It shows what games need: a lobby that puts two players at a table and chooses the table's node,
//! a time for each turn, one session per account, announcements to all players, and players who come
//! back in the middle of a game. A player whose connection is lost keeps the session, so that no
//! code here deals with it; one who loads the page anew logs in again and gets the same cards.
//!
//! All nodes are in this process. In processes of their own they would have other addresses, and
//! nothing else would change.

use std::time::Duration;

use clap::Parser;
use nano::{LogFormat, Logs, Member, Node, Result};

mod game;
mod gate;
mod lobby;
mod tables;

/// A card game on four nodes.
#[derive(Parser)]
pub(crate) struct Flags {
    /// Where the page is, and the WebSocket of its clients.
    #[arg(long, default_value = "127.0.0.1:3254")]
    pub(crate) listen: String,
    /// The time for a turn, in milliseconds. Then the lowest card is played.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) turn: u64,
    /// The password of those who may announce something to all players.
    #[arg(long)]
    pub(crate) admin: Option<String>,
}

#[tokio::main]
async fn main() -> Result {
    Logs::start("warn", LogFormat::Text)?;
    let nodes = start(Flags::parse()).await?;
    let [gate, lobby, red, blue] = &nodes;
    println!("open http://{}/web/ in two windows", gate.addresses()[0]);
    // A signal stops one node, which stops the others. The master goes last, so that the others can
    // unregister.
    lobby.run().await?;
    for node in [red, blue, gate] {
        node.shutdown().await;
    }
    Ok(())
}

/// The gate, the lobby, and two nodes with tables.
pub(crate) async fn start(flags: Flags) -> Result<[Node; 4]> {
    let gate = gate::app(&flags.listen).start().await?;
    let master = gate.handle().member().map_or("", Member::address);
    let turn = Duration::from_millis(flags.turn);
    let red = tables::app(master, "red", turn).start().await?;
    let blue = tables::app(master, "blue", turn).start().await?;
    let lobby = lobby::app(master, flags.admin).start().await?;
    Ok([gate, lobby, red, blue])
}
