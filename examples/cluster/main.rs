//! A chat of three nodes: a master, which knows the users; a room, in which they talk; and a gate,
//! to which they connect.
//!
//! ```text
//! cargo run --example cluster                   # all three; then open http://127.0.0.1:12345/web/ in two windows
//!
//! cargo run --example cluster -- master         # or each alone, on machines of their own
//! cargo run --example cluster -- chat --listen 127.0.0.1:34580
//! cargo run --example cluster -- gate --listen 127.0.0.1:34570 --gate-address 127.0.0.1:34590
//! ```
//!
//! Kill any of them while people chat, and start it again. Flags, routes and messages are those of
//! nano's cluster example, so that any of the three can be a node of Go nano.
//!
//! A client logs in with `BindService.Login` at the gate. A name is an account: of two sessions that
//! log in with it, the older is kicked, at whatever gate it is. The gate sends `TopicService.NewUser` to
//! the master, and the master `RoomService.JoinRoom` to the room. Master and room push to the client
//! directly.

use std::{future::pending, io, thread};

use clap::{Parser, Subcommand};
use nano::{App, LogFormat, Logs, Result};
use tokio::sync::oneshot;

pub(crate) mod chat;
pub(crate) mod gate;
pub(crate) mod master;
mod protocol;
mod tree;

/// A chat of three nodes. Without a role it starts one of each.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    tree: tree::Flags,
    /// Stops when standard input ends, as it does when the parent process is gone.
    #[arg(long, global = true)]
    with_parent: bool,
}

#[derive(Subcommand)]
enum Role {
    /// Keeps the list of nodes, knows who is logged in, and serves the page.
    Master(master::Flags),
    /// The room.
    Chat(chat::Flags),
    /// Where clients connect.
    Gate(gate::Flags),
}

#[tokio::main]
async fn main() -> Result {
    Logs::start("info", LogFormat::Text)?;
    let CommandLine {
        role,
        tree,
        with_parent,
    } = CommandLine::parse();
    match role {
        None => tree::run(&tree).await,
        Some(Role::Master(flags)) => run(master::app(&flags), with_parent).await,
        Some(Role::Chat(flags)) => run(chat::app(&flags), with_parent).await,
        Some(Role::Gate(flags)) => run(gate::app(&flags), with_parent).await,
    }
}

/// Runs one node, and says on standard output when it serves.
async fn run(app: App, with_parent: bool) -> Result {
    let alone = alone(with_parent);
    tokio::pin!(alone);
    let node = tokio::select! {
        node = app.start() => node?,
        () = &mut alone => return Ok(()),
    };
    // Signals are handled before the line that says that the node is up.
    let run = node.run();
    println!(
        "up at {}",
        node.handle().member().map_or("", |member| member.address())
    );
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => return ended,
        () = alone => node.handle().shutdown(),
    }
    run.await
}

/// Ready when the process that started this one is gone.
async fn alone(with_parent: bool) {
    if !with_parent {
        return pending().await;
    }
    let (sender, ended) = oneshot::channel();
    thread::spawn(move || {
        // The parent is gone, whether the input ends or fails.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = sender.send(());
    });
    // The sender is only dropped after it has sent.
    let _ = ended.await;
}
