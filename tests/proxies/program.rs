//! A proxy as a process with a configuration file of its own.

use std::{net::SocketAddr, path::PathBuf};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::support::eventually;

/// Killed when dropped.
pub(crate) struct Program {
    _process: Child,
    _directory: TempDir,
}

impl Program {
    /// Writes the configuration, starts the program, and waits until it listens on the port.
    /// `command` gets the directory and the file.
    pub(crate) async fn start(
        config: impl FnOnce(&std::path::Path) -> String,
        command: impl FnOnce(&std::path::Path, PathBuf) -> Command,
        port: u16,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("proxy.conf");
        std::fs::write(&file, config(directory.path())).unwrap();
        let mut process = command(directory.path(), file)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut listens = false;
        let deadline = tokio::time::Instant::now() + crate::support::DEADLINE;
        while !listens && tokio::time::Instant::now() < deadline {
            assert!(process.try_wait().unwrap().is_none(), "the proxy has ended");
            listens = TcpStream::connect(address).await.is_ok();
            tokio::task::yield_now().await;
        }
        assert!(listens, "the proxy does not listen");
        Self {
            _process: process,
            _directory: directory,
        }
    }
}

/// Waits until the node has no session, as before.
pub(crate) async fn no_session(node: &nano::Node) {
    eventually("all sessions end", || node.handle().sessions().count() == 0).await;
}
