//! Players keep their coins, whatever the database.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{fs, path::PathBuf, process::Stdio};

use nano::testing::{TestNode, within};
use nano_persistence::{Store, app};
use tempfile::TempDir;
use tokio::process::{Child, Command};

async fn players_keep_their_coins(url: &str) {
    let start = async || {
        let store = within("a database", Store::open(url)).await.unwrap();
        TestNode::start(app(store).tcp("127.0.0.1:0")).await
    };
    let node = start().await;
    let first = node.client().await;
    let login: i64 = within("a login", first.request("Account.Login", "ann"))
        .await
        .unwrap();
    assert_eq!(login, 100);
    let left: i64 = first.request("Account.Spend", &30).await.unwrap();
    assert_eq!(left, 70);
    let refused = first.request::<i64, _>("Account.Spend", &71).await;
    assert_eq!(refused.unwrap_err().code(), "SHOP-POOR");

    // The next login waits until the session before it is saved.
    let second = node.client().await;
    let coins: i64 = second.request("Account.Login", "ann").await.unwrap();
    assert_eq!(coins, 70);
    let left: i64 = second.request("Account.Spend", &20).await.unwrap();
    assert_eq!(left, 50);
    let refused = node
        .client()
        .await
        .request::<i64, _>("Account.Spend", &1)
        .await;
    assert!(refused.is_err());

    // A node that stops saves its players.
    node.stop().await;
    let node = start().await;
    let coins: i64 = node
        .client()
        .await
        .request("Account.Login", "ann")
        .await
        .unwrap();
    assert_eq!(coins, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("players.db");
    players_keep_their_coins(&format!("sqlite://{}?mode=rwc", file.display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgresql() {
    let Some(server) = PostgreSql::start().await else {
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    players_keep_their_coins(&server.url).await;
}

/// A server of its own, on a port of its own, in a folder that goes with it.
struct PostgreSql {
    _process: Child,
    _folder: TempDir,
    url: String,
}

impl PostgreSql {
    /// `None` where it is not installed.
    async fn start() -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        // The server refuses to run as root.
        let root = Command::new("id").arg("-u").output().await.unwrap().stdout == b"0\n";
        let program = |name: &str| {
            let program = programs.join(name);
            let mut command = match root {
                true => Command::new("setpriv"),
                false => Command::new(&program),
            };
            if root {
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
                command.arg(&program);
            }
            command.current_dir("/").stdin(Stdio::null());
            command.kill_on_drop(true);
            command
        };
        if root {
            let mut chown = Command::new("chown");
            let owned = chown.arg("postgres").arg(folder.path()).status().await;
            assert!(owned.unwrap().success());
        }
        let mut initdb = program("initdb");
        initdb.args(["--auth=trust", "--username=game", "--no-sync", "-D"]);
        let output = initdb.arg(&data).output().await.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        let mut server = program("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(folder.path());
        server.args(["-h", "127.0.0.1", "-F", "-p", &port.to_string()]);
        let process = server
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("postgres://game@127.0.0.1:{port}/postgres");
        let ready = async {
            while Store::open(&url).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        within("PostgreSQL", ready).await;
        Some(Self {
            _process: process,
            _folder: folder,
            url,
        })
    }
}

/// Debian keeps the server's programs out of the path.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|programs: &PathBuf| programs.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}
