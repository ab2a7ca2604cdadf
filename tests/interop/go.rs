//! Nodes of Go nano: how they are built, and one as a process.

use std::{
    env,
    io::{Write, stderr},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::support::{DEADLINE, eventually, within};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/node");

/// The program, built once. `None` where it cannot be, with a line that says why.
pub(crate) fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || match build() {
        Ok(program) => Some(program),
        Err(missing) => {
            // Past the test harness, which shows nothing of tests that pass.
            stderr()
                .write_all(format!("interop: skipped, {missing}\n").as_bytes())
                .unwrap();
            None
        }
    };
    PROGRAM.get_or_init(build).as_deref()
}

fn build() -> Result<PathBuf, &'static str> {
    let program = env::current_exe()
        .unwrap()
        .with_file_name(format!("interop-go-node{}", env::consts::EXE_SUFFIX));
    let built = go(&[
        "build",
        "-buildvcs=false",
        "-o",
        program.to_str().unwrap(),
        ".",
    ])
    .ok_or("go is not installed")?;
    if built.status.success() {
        return Ok(program);
    }
    let downloaded = go(&["mod", "download"]).is_some_and(|download| download.status.success());
    assert!(
        !downloaded,
        "the Go node does not compile:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Err("github.com/lonng/nano at dbf22c7 cannot be downloaded here")
}

fn go(arguments: &[&str]) -> Option<Output> {
    std::process::Command::new("go")
        .args(arguments)
        .current_dir(SOURCE)
        .stdin(Stdio::null())
        .output()
        .ok()
}

/// A node of Go nano in a process of its own, which is killed when dropped.
pub(crate) struct GoNode {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl GoNode {
    /// Starts it, and waits until it is a member.
    pub(crate) async fn start(program: &Path, flags: &[&str]) -> Self {
        loop {
            let node = Self::spawn(program, flags);
            if node.joined().await {
                return node;
            }
        }
    }

    fn spawn(program: &Path, flags: &[&str]) -> Self {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        let mut process = Command::new(program)
            .args(flags)
            .args([
                "-id",
                &(LAST_ID.fetch_add(1, Ordering::Relaxed) + 1).to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (said, mut out) = (
            lines.clone(),
            BufReader::new(process.stdout.take().unwrap()).lines(),
        );
        tokio::spawn(async move {
            while let Ok(Some(line)) = out.next_line().await {
                said.lock().push(line);
            }
        });
        let (said, mut errors) = (lines.clone(), process.stderr.take().unwrap());
        tokio::spawn(async move {
            let mut text = String::new();
            // Not text is no error of this test.
            let _ = errors.read_to_string(&mut text).await;
            said.lock()
                .extend(text.lines().map(|line| format!("stderr: {line}")));
        });
        Self { process, lines }
    }

    pub(crate) fn said(&self, line: &str) -> usize {
        self.lines
            .lock()
            .iter()
            .filter(|said| *said == line)
            .count()
    }

    /// Waits until it is a member. False if it ended before: a Go master begins to serve and adds a
    /// service in no particular order, and ends itself when the order was the wrong one.
    async fn joined(&self) -> bool {
        let end = Instant::now() + DEADLINE;
        while self.said("joined") == 0 {
            if self
                .lines
                .lock()
                .iter()
                .any(|line| line.contains("RegisterService after Server.Serve"))
            {
                return false;
            }
            assert!(
                Instant::now() < end,
                "the Go node does not join; it says {:#?}",
                self.lines.lock()
            );
            sleep(Duration::from_millis(2)).await;
        }
        true
    }

    /// Waits until nano has logged that it was notified of the end of this member.
    pub(crate) async fn is_notified_of_the_end_of(&self, address: &str) {
        let is_it = |line: &String| {
            (line.contains("DelMember member") || line.contains("unregister to cluster"))
                && line.contains(address)
        };
        eventually(&format!("word of the end of {address}"), || {
            self.lines.lock().iter().any(is_it)
        })
        .await;
    }

    /// Waits until nano has logged, as master, that it knows this member.
    pub(crate) async fn has_heard_of(&self, address: &str) {
        let end = format!("peer register to cluster {address}");
        eventually(&format!("the Go master to know {address}"), || {
            self.lines.lock().iter().any(|line| line.ends_with(&end))
        })
        .await;
    }

    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Stops it by a signal, and waits for its end.
    pub(crate) async fn stop(&mut self) {
        let id = self.process.id().unwrap();
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -TERM {id}")])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
        let status = within("the end of a Go node", self.process.wait())
            .await
            .unwrap();
        assert!(status.success(), "{status}: {:?}", self.lines.lock());
    }
}
