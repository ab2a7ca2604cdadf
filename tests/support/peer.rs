use std::{
    env,
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

use super::{RawClient, within};

/// The recorded server, `tests/fixtures/peer`, in a process of its own. It is killed when dropped.
pub(crate) struct Peer {
    /// Where clients connect, or other nodes if clients cannot.
    pub(crate) address: SocketAddr,
    /// Where other nodes connect, in a cluster.
    pub(crate) nodes: Option<SocketAddr>,
    /// Where operators connect, with `--admin`.
    pub(crate) operators: Option<SocketAddr>,
    websocket: bool,
    process: Child,
    stderr: JoinHandle<String>,
}

/// How a peer ended.
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Peer {
    /// Starts it with these flags, on a port the system chooses if they name none; ready, and in a
    /// cluster a member, when this returns.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::launch(Command::new(program()), flags).await
    }

    /// The same by a command of another's, which runs [`program`].
    pub(crate) async fn launch(mut command: Command, flags: &[&str]) -> Self {
        let mut process = command
            .args(
                ["--listen", "127.0.0.1:0"]
                    .iter()
                    .filter(|_| !flags.contains(&"--listen")),
            )
            .args(flags)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut errors = process.stderr.take().unwrap();
        let stderr = tokio::spawn(async move {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).await.unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let is_node = flags
            .iter()
            .any(|flag| ["--master", "--is-master"].contains(flag));
        let has_clients = !is_node || flags.contains(&"--client");
        let mut address = async |expected: bool, before: &str| {
            if !expected {
                return Ok(None);
            }
            let line = within("the peer's address", lines.next_line())
                .await
                .unwrap()
                .unwrap_or_default();
            line.strip_prefix(before)
                .and_then(|address| address.parse().ok())
                .map(Some)
                .ok_or(line)
        };
        let (clients, nodes, operators) = (
            address(has_clients, "listening on ").await,
            address(is_node, "serving nodes at ").await,
            address(flags.contains(&"--admin"), "serving operators at ").await,
        );
        let (Ok(clients), Ok(nodes), Ok(operators)) = (&clients, &nodes, &operators) else {
            panic!(
                "the peer says {clients:?}, {nodes:?} and {operators:?} instead of its addresses; \
                 its errors: {}",
                stderr.await.unwrap()
            )
        };
        let address = clients.or(*nodes).unwrap();
        Self {
            address,
            nodes: *nodes,
            operators: *operators,
            websocket: flags.contains(&"--ws"),
            process,
            stderr,
        }
    }

    /// What other nodes call it by.
    pub(crate) fn node(&self) -> String {
        self.nodes.unwrap().to_string()
    }

    /// A connection to it of the kind it listens for; nothing sent yet.
    pub(crate) async fn connect(&self) -> RawClient {
        if self.websocket {
            RawClient::websocket(self.address, "/nano").await
        } else {
            RawClient::tcp(self.address).await
        }
    }

    /// Sends it a signal, such as `KILL`.
    pub(crate) async fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.id())])
            .status()
            .await
            .unwrap();
        assert!(sent.success(), "SIG{name} not sent");
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Waits for its end.
    pub(crate) async fn exited(mut self) -> Exit {
        let status = within("the peer's end", self.process.wait()).await.unwrap();
        Exit {
            status,
            stderr: self.stderr.await.unwrap(),
        }
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) -> Exit {
        self.terminate().await;
        self.exited().await
    }
}

/// Examples are built beside tests: `target/<profile>/examples` and `target/<profile>/deps`.
pub(crate) fn program() -> PathBuf {
    let test = env::current_exe().unwrap();
    let program = test
        .parent()
        .unwrap()
        .with_file_name("examples")
        .join(format!("peer{}", env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "no {}: `cargo test` builds it, `cargo test --test` does not; `cargo build --example peer` does",
        program.display()
    );
    program
}
