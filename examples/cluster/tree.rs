//! All three nodes, each in a process of its own. They stop together, but each may end and be
//! started again by hand.

use std::{
    env,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use clap::Args;
use nano::{Error, Result, code};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    signal,
    time::timeout,
};

/// A node takes 10 s at most.
const STOP: Duration = Duration::from_secs(15);

/// Where the page looks for the gate unless told otherwise.
const GATE: &str = "127.0.0.1:34590";

#[derive(Args)]
pub(super) struct Flags {
    /// Where the page is served.
    #[arg(long, default_value = "127.0.0.1:12345")]
    web: String,
    /// Where other nodes reach the master.
    #[arg(long, default_value = "127.0.0.1:34567")]
    master: String,
    /// Where other nodes reach the room.
    #[arg(long, default_value = "127.0.0.1:34580")]
    chat: String,
    /// Where other nodes reach the gate.
    #[arg(long, default_value = "127.0.0.1:34570")]
    gate: String,
    /// Where clients connect.
    #[arg(long, default_value = GATE)]
    gate_address: String,
}

pub(super) async fn run(flags: &Flags) -> Result {
    let Flags {
        web,
        master,
        chat,
        gate,
        gate_address,
    } = flags;
    let stop = interrupted()?;
    let started = async {
        Ok::<_, Error>([
            Role::start(&["master", "--listen", master, "--web", web]).await?,
            Role::start(&["chat", "--listen", chat, "--master", master]).await?,
            Role::start(&[
                "gate",
                "--listen",
                gate,
                "--master",
                master,
                "--gate-address",
                gate_address,
            ])
            .await?,
        ])
    };
    tokio::pin!(stop);
    let [mut master, mut chat, mut gate] = tokio::select! {
        started = started => started?,
        () = &mut stop => return Ok(()),
    };
    let query = if gate_address == GATE {
        String::new()
    } else {
        format!("?gate={gate_address}")
    };
    println!("open http://{web}/web/{query} in two windows; Ctrl-C stops everything");
    tokio::select! {
        _ = async { tokio::join!(master.watch(), chat.watch(), gate.watch()) } => {}
        () = stop => {}
    }
    // Those behind the others last.
    for role in [&mut gate, &mut chat, &mut master] {
        role.stop().await;
    }
    Ok(())
}

/// A node in a process of its own.
struct Role {
    arguments: String,
    name: String,
    process: Child,
    /// It stops when this is closed, by us or by our end.
    stdin: Option<ChildStdin>,
}

impl Role {
    /// Returns when it serves.
    async fn start(arguments: &[&str]) -> Result<Self> {
        let name = arguments.first().copied().unwrap_or_default().to_owned();
        let mut command = Command::new(env::current_exe()?);
        command
            .args(arguments)
            .arg("--with-parent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C is for this process, which stops the others in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut process = command.spawn()?;
        let says = process.stdout.take().map(BufReader::new);
        let mut line = String::new();
        if let Some(mut says) = says {
            says.read_line(&mut line).await?;
        }
        if line.is_empty() {
            return Err(Error::new(
                code::UNAVAILABLE,
                format!("{name} did not start; its log says why"),
            ));
        }
        println!(
            "{name} is {}, process {}",
            line.trim_end(),
            process.id().unwrap_or_default()
        );
        // Apart from the process, because waiting for that closes what it holds.
        let stdin = process.stdin.take();
        Ok(Self {
            arguments: arguments.join(" "),
            name,
            process,
            stdin,
        })
    }

    /// Ends when it has ended, and says so.
    async fn watch(&mut self) {
        let how = self.process.wait().await.map_or_else(
            |error| error.to_string(),
            |status: ExitStatus| status.to_string(),
        );
        println!(
            "{} has ended, {how}; start it again: cargo run --example cluster -- {}",
            self.name, self.arguments
        );
    }

    /// Stops it in order.
    async fn stop(&mut self) {
        drop(self.stdin.take());
        if timeout(STOP, self.process.wait()).await.is_err() {
            println!("{} does not stop and is killed", self.name);
        }
    }
}

/// Completes on a signal to terminate. Signals count from the call on.
#[cfg(unix)]
fn interrupted() -> Result<impl Future<Output = ()>> {
    use signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn interrupted() -> Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler for it Ctrl-C ends the process anyway.
        let _ = signal::ctrl_c().await;
    })
}
