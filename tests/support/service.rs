use std::{
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::{program, within};

/// A node with a configuration of `deploy/config`, in a process of its own on ports the system chooses,
/// unless its variables name some. It is killed when dropped.
pub(crate) struct Service {
    process: Child,
    /// What it has printed of its addresses.
    lines: Vec<String>,
}

impl Service {
    /// Starts it with these arguments and variables of the environment; ready when this returns, or
    /// soon.
    pub(crate) async fn start(role: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let config =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/config/{role}.toml"));
        let mut command = Command::new(program());
        command.arg("--config").arg(config).args(arguments);
        command.envs([
            ("NANO_ADMIN_ADDRESS", "127.0.0.1:0"),
            ("NANO_CLUSTER_LISTEN", "127.0.0.1:0"),
            ("NANO_CLUSTER_TOKEN", "swordfish"),
        ]);
        if role == "gate" {
            command.env("NANO_LISTENERS_0_ADDRESS", "127.0.0.1:0");
        }
        let mut process = command
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = Vec::<String>::new();
        // The line about operators is the last one.
        while !lines
            .last()
            .is_some_and(|line| line.starts_with("serving operators at "))
        {
            let line = within("the service's addresses", output.next_line()).await;
            lines.push(line.unwrap().expect("the service runs"));
        }
        Self { process, lines }
    }

    /// Where clients connect, if it is a gate.
    pub(crate) fn clients(&self) -> Option<SocketAddr> {
        self.address("listening on ")
    }

    /// Where other nodes connect.
    pub(crate) fn nodes(&self) -> SocketAddr {
        self.address("serving nodes at ").unwrap()
    }

    /// Where operators connect.
    pub(crate) fn operators(&self) -> SocketAddr {
        self.address("serving operators at ").unwrap()
    }

    fn address(&self, before: &str) -> Option<SocketAddr> {
        let mut lines = self.lines.iter();
        lines.find_map(|line| Some(line.strip_prefix(before)?.parse().unwrap()))
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) async fn terminate(&self) {
        let id = self.process.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.process.wait().await.unwrap()
    }
}
