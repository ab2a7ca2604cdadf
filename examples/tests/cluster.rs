//! `examples/cluster`, as the tree of processes that one command starts.

use std::net::TcpListener;

use nano::{
    Result,
    client::{Client, Subscription},
    code,
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    time::{Duration, Instant, sleep},
};

use crate::{
    program::{Program, signal},
    support::{DEADLINE, websocket, within},
};

#[tokio::test]
async fn any_node_is_killed_and_started_again_and_people_chat_on() {
    let mut tree = Tree::start().await;
    let mut ann = Person::log_in(&tree.gate, "Ann").await;
    assert_eq!(ann.members().await, "");
    ann.say("is the room empty?").await.unwrap();
    ann.hears("Ann", "is the room empty?").await;
    let mut ben = Person::log_in(&tree.gate, "Ben").await;
    assert_eq!(ben.members().await, "Ann");
    ben.say_until_heard_by("me", &mut ann).await;

    // Without a room a message is refused, not lost.
    let chat = tree.kill_and_expect_advice("chat", tree.processes[1]).await;
    assert_eq!(
        ann.say("too early").await.unwrap_err().code(),
        code::UNAVAILABLE
    );
    let _chat = tree.start_by_hand(&chat).await;
    ann.say_until_heard_by("the room is back", &mut ben).await;
    ben.say_until_heard_by("so it is", &mut ann).await;

    // Chat works without the master. When it is back, it learns the members of the room.
    let master = tree
        .kill_and_expect_advice("master", tree.processes[0])
        .await;
    ann.say_until_heard_by("no master", &mut ben).await;
    let _master = tree.start_by_hand(&master).await;
    let mut cem = Person::log_in_sooner_or_later(&tree.gate, "Cem").await;
    while cem.members().await.split(',').count() != 2 {}
    cem.say_until_heard_by("hello from a newcomer", &mut ben)
        .await;

    // One session per name, and the restarted nodes know it.
    let again = Person::log_in_sooner_or_later(&tree.gate, "Cem").await;
    let reason = within("the end of the older session", cem.client.closed()).await;
    assert_eq!(reason.to_string(), "kicked: logged in elsewhere");
    again.say_until_heard_by("moved", &mut ben).await;
    assert!(tree.program.stop().await.success());
    assert!(
        Client::connect(&tree.gate).await.is_err(),
        "the gate has stopped with the others"
    );
}

#[tokio::test]
async fn nodes_end_with_the_process_that_started_them() {
    let tree = Tree::start().await;
    let ann = Person::log_in(&tree.gate, "Ann").await;
    drop(tree.program);
    let reason = within("the end of a connection", ann.client.closed()).await;
    assert_eq!(reason.to_string(), "kicked: server is shutting down");
}

#[tokio::test]
async fn the_master_serves_the_page_and_no_players() {
    let tree = Tree::start().await;
    let page = get(&tree.web, "/web/").await;
    assert!(
        page.starts_with("HTTP/1.1 200")
            && page.contains("cluster.js")
            && page.contains("cluster.css"),
        "{page}"
    );
    for file in [
        "cluster.js",
        "cluster.css",
        "nano.js",
        "view.js",
        "style.css",
    ] {
        assert!(
            get(&tree.web, &format!("/web/{file}"))
                .await
                .starts_with("HTTP/1.1 200"),
            "{file}"
        );
    }
    assert!(get(&tree.web, "/").await.starts_with("HTTP/1.1 303"));
    let (_, head) =
        websocket::http(tree.web.parse().unwrap(), &websocket::upgrade("/nano", "")).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(tree.program.stop().await.success());
}

struct Tree {
    program: Program,
    /// Of master, chat and gate.
    processes: [u32; 3],
    web: String,
    gate: String,
}

impl Tree {
    async fn start() -> Self {
        let [web, master, chat, gate, clients] = free_addresses();
        let flags = [
            "--web",
            &web,
            "--master",
            &master,
            "--chat",
            &chat,
            "--gate",
            &gate,
            "--gate-address",
            &clients,
        ];
        let mut program = Program::start("cluster", &flags);
        let mut processes = [0; 3];
        for (at, (name, address)) in [("master", &master), ("chat", &chat), ("gate", &gate)]
            .into_iter()
            .enumerate()
        {
            let line = program.line().await;
            let process = line.strip_prefix(&format!("{name} is up at {address}, process "));
            processes[at] = process.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        }
        let line = program.line().await;
        assert_eq!(
            line,
            format!(
                "open http://{web}/web/?gate={clients} in two windows; Ctrl-C stops everything"
            )
        );
        Self {
            program,
            processes,
            web,
            gate: format!("ws://{clients}/nano"),
        }
    }

    /// The flags to start it again with.
    async fn kill_and_expect_advice(&mut self, name: &str, process: u32) -> Vec<String> {
        signal("KILL", process).await;
        let line = self.program.line().await;
        let advice = format!(
            "{name} has ended, signal: 9 (SIGKILL); start it again: cargo run --example cluster -- "
        );
        let flags = line
            .strip_prefix(&advice)
            .unwrap_or_else(|| panic!("{line}"));
        flags.split(' ').map(str::to_owned).collect()
    }

    async fn start_by_hand(&self, flags: &[String]) -> Program {
        let mut program = Program::start(
            "cluster",
            &flags.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        assert_eq!(program.line().await, format!("up at {}", flags[2]));
        program
    }
}

struct Person {
    name: &'static str,
    client: Client,
    members: Subscription,
    messages: Subscription,
}

impl Person {
    async fn log_in(gate: &str, name: &'static str) -> Self {
        Self::try_log_in(gate, name).await.unwrap()
    }

    /// As soon as it is not refused.
    async fn log_in_sooner_or_later(gate: &str, name: &'static str) -> Self {
        let end = Instant::now() + DEADLINE;
        loop {
            match Self::try_log_in(gate, name).await {
                Ok(person) => return person,
                Err(error) => assert!(Instant::now() < end, "{name} cannot log in: {error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn try_log_in(gate: &str, name: &'static str) -> Result<Self> {
        let mut builder = Client::builder();
        let (members, messages) = (
            builder.subscribe("onMembers"),
            builder.subscribe("onMessage"),
        );
        let client = builder.connect(gate).await?;
        let reply: Value = client
            .request("BindService.Login", &json!({ "nickname": name }))
            .await?;
        assert_eq!(reply, json!({ "code": 0 }));
        Ok(Self {
            name,
            client,
            members,
            messages,
        })
    }

    async fn members(&mut self) -> String {
        let push: Value = within("a push", self.members.recv_as())
            .await
            .unwrap()
            .unwrap();
        push["members"].as_str().unwrap().to_owned()
    }

    async fn say(&self, content: &str) -> Result<Value> {
        self.client
            .request(
                "RoomService.SyncMessage",
                &json!({ "name": self.name, "content": content }),
            )
            .await
    }

    /// Waits until this is pushed to them.
    async fn hears(&mut self, name: &str, content: &str) {
        within(content, async {
            while self.messages.recv_as::<Value>().await.unwrap().unwrap()
                != json!({ "name": name, "content": content })
            {}
        })
        .await;
    }

    /// Says it again as long as it is refused.
    async fn say_until_heard_by(&self, content: &str, other: &mut Person) {
        let end = Instant::now() + DEADLINE;
        while let Err(error) = self.say(content).await {
            assert!(Instant::now() < end, "{content:?} is refused: {error}");
            sleep(Duration::from_millis(50)).await;
        }
        other.hears(self.name, content).await;
    }
}

/// Unused addresses.
fn free_addresses<const N: usize>() -> [String; N] {
    // All at once, so that they differ.
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

async fn get(address: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let (mut stream, mut answer) = websocket::http(address.parse().unwrap(), &request).await;
    within(
        "the body of an HTTP response",
        stream.read_to_string(&mut answer),
    )
    .await
    .unwrap();
    answer
}
