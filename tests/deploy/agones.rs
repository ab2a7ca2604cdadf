//! What `deploy/agones/bridge.sh` tells Agones of a node.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::Arc,
};

use nano::{App, testing::TestNode};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
};

use crate::support::{eventually, within};

/// The path of a request, whose head has been read.
async fn path(socket: &mut BufReader<TcpStream>) -> String {
    let mut lines = socket.lines();
    // A caller that has given up sends nothing.
    let mut line = async || lines.next_line().await.ok().flatten().unwrap_or_default();
    let first = line().await;
    while !line().await.is_empty() {}
    first.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// An answer as it is sent, with the length that its head names.
fn answer(status: u16, body: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

/// What is posted to a stand-in for the SDK server of Agones.
struct Posts(mpsc::UnboundedReceiver<String>);

impl Posts {
    /// Waits for this post, and returns those before it.
    async fn until(&mut self, state: &str) -> Vec<String> {
        let mut before = Vec::new();
        let arrives = async {
            loop {
                match self.0.recv().await.unwrap() {
                    post if post == state => break,
                    post => before.push(post),
                }
            }
        };
        within(state, arrives).await;
        before
    }

    /// Waits until this post has failed, and then succeeded.
    async fn until_done(&mut self, state: &str) {
        for _ in 0..2 {
            self.until(state).await;
        }
    }

    /// Those that have arrived.
    fn arrived(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

/// A stand-in for the SDK server of Agones. The first post of each state fails there.
async fn agones() -> (SocketAddr, Posts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (posted, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut failed = HashSet::from(["/health".to_owned()]);
        while let Ok((socket, _)) = listener.accept().await {
            let mut socket = BufReader::new(socket);
            let path = path(&mut socket).await;
            let status = if failed.insert(path.clone()) {
                500
            } else {
                200
            };
            let _ = socket.write_all(&answer(status, "{}", 2)).await;
            if posted.send(path).is_err() {
                break;
            }
        }
    });
    (address, Posts(received))
}

/// The bridge beside the node with this admin server; none where there is no curl.
fn bridge(node: SocketAddr, agones: SocketAddr) -> Option<Child> {
    let curl = std::process::Command::new("curl").arg("--version").output();
    if curl.is_err() {
        println!("skipped: no curl");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/agones/bridge.sh");
    let mut bridge = Command::new("sh");
    bridge
        .arg(script)
        .env("NODE", format!("http://{node}"))
        .env("AGONES", format!("http://{agones}"))
        .env("INTERVAL", "0.05")
        .env("TIMEOUT", "0.5")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Some(bridge.spawn().unwrap())
}

/// A stand-in for a node's admin server, which answers what a test says.
struct Admin {
    address: SocketAddr,
    /// By path. Without an answer the connection stays open.
    answers: Arc<Mutex<HashMap<&'static str, Vec<u8>>>>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    serving: JoinHandle<()>,
}

impl Admin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(HashMap::<_, Vec<u8>>::new()));
        let asked = Arc::new(Mutex::new(HashMap::new()));
        let (read, count) = (answers.clone(), asked.clone());
        let serving = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                let mut socket = BufReader::new(socket);
                let path = path(&mut socket).await;
                let answer = read.lock().get(path.as_str()).cloned();
                if let Some(answer) = answer {
                    let _ = socket.write_all(&answer).await;
                } else {
                    kept.push(socket);
                }
                *count.lock().entry(path).or_default() += 1;
            }
        });
        let it = Self {
            address,
            answers,
            asked,
            serving,
        };
        it.status("/healthz", 200);
        it
    }

    fn answer(&self, path: &'static str, bytes: Vec<u8>) {
        self.answers.lock().insert(path, bytes);
    }

    fn status(&self, path: &'static str, status: u16) {
        self.answer(path, answer(status, "{}", 2));
    }

    /// Has clients of this gate, and none of others.
    fn sessions(&self, count: usize) {
        let body = metrics(count);
        self.answer("/metrics", answer(200, &body, body.len()));
    }

    /// Waits until the path has been asked for so often from now on.
    async fn asked(&self, path: &str, times: usize) {
        let count = || self.asked.lock().get(path).copied();
        let before = count().unwrap_or_default();
        eventually(path, || count() >= Some(before + times)).await;
    }
}

/// The beginning of what a node tells, up to its sessions.
fn metrics(sessions: usize) -> String {
    format!(
        "# TYPE nano_sessions gauge\n\
         nano_sessions{{node=\"gate\",client=\"local\"}} {sessions}\n\
         nano_sessions{{node=\"gate\",client=\"remote\"}} 0\n"
    )
}

#[tokio::test]
async fn agones_learns_whether_a_gate_has_players_and_that_it_has_ended() {
    let node = TestNode::start(App::new().admin("127.0.0.1:0").tcp("127.0.0.1:0")).await;
    let (sdk, mut posts) = agones().await;
    let Some(mut bridge) = bridge(node.handle().admin_address().unwrap(), sdk) else {
        return;
    };
    posts.until("/health").await;
    posts.until("/ready").await;
    let client = node.client().await;
    posts.until("/allocate").await;
    client.close();
    posts.until("/ready").await;
    node.stop().await;
    posts.until("/shutdown").await;
    let ended = within("the end of the bridge", bridge.wait()).await;
    assert!(ended.unwrap().success());
}

#[tokio::test]
async fn a_node_that_starts_is_healthy_and_not_ready_and_one_that_drains_takes_no_players() {
    let (admin, (sdk, mut posts)) = (Admin::start().await, agones().await);
    admin.status("/readyz", 503);
    admin.sessions(0);
    let Some(_bridge) = bridge(admin.address, sdk) else {
        return;
    };
    admin.asked("/readyz", 4).await;
    let posted = posts.arrived();
    assert!(!posted.is_empty());
    assert!(posted.iter().all(|it| it == "/health"), "{posted:?}");
    admin.status("/readyz", 200);
    posts.until_done("/ready").await;
    admin.status("/readyz", 503);
    posts.until("/allocate").await;
}

#[tokio::test]
async fn a_game_server_stays_allocated_while_its_sessions_cannot_be_counted() {
    let (admin, (sdk, mut posts)) = (Admin::start().await, agones().await);
    admin.status("/readyz", 200);
    admin.sessions(7);
    let Some(_bridge) = bridge(admin.address, sdk) else {
        return;
    };
    posts.until_done("/allocate").await;
    let body = metrics(0);
    let unreadable = [
        answer(500, "{}", 2),
        answer(401, "{}", 2),
        // It has not sent all, and what it has sent says 0.
        answer(200, &body, body.len() + 1),
        answer(200, "nano_ready{node=\"gate\"} 1\n", 27),
    ];
    for bytes in unreadable {
        admin.answer("/metrics", bytes);
        admin.asked("/metrics", 3).await;
    }
    admin.answers.lock().remove("/metrics");
    admin.asked("/metrics", 3).await;
    let posted = posts.arrived();
    assert!(!posted.is_empty());
    assert!(posted.iter().all(|it| it == "/health"), "{posted:?}");
    admin.sessions(0);
    posts.until("/ready").await;
}

#[tokio::test]
async fn a_node_that_hangs_is_left_to_the_health_check_of_agones() {
    let (admin, (sdk, mut posts)) = (Admin::start().await, agones().await);
    admin.status("/readyz", 200);
    admin.sessions(7);
    let Some(mut bridge) = bridge(admin.address, sdk) else {
        return;
    };
    posts.until_done("/allocate").await;
    for hangs in [true, false] {
        match hangs {
            true => drop(admin.answers.lock().remove("/healthz")),
            false => admin.status("/healthz", 500),
        }
        // The round that had begun before may still post.
        admin.asked("/healthz", 2).await;
        posts.arrived();
        admin.asked("/healthz", 5).await;
        assert_eq!(posts.arrived(), Vec::<String>::new(), "hangs: {hangs}");
        admin.status("/healthz", 200);
        assert_eq!(posts.until("/health").await, Vec::<String>::new());
    }
    admin.asked("/readyz", 2).await;
    let posted = posts.arrived();
    assert!(posted.iter().all(|it| it == "/health"), "{posted:?}");
    // Its port is closed: it has ended.
    admin.serving.abort();
    posts.until_done("/shutdown").await;
    let ended = within("the end of the bridge", bridge.wait()).await;
    assert!(ended.unwrap().success());
}
