//! `members`, `sessions`, `kick`, `drain` and `top`.

use std::{process::Stdio, time::Duration};

use nano::{
    Admin, App, Cluster, Component, Group, Handlers, Result, Session,
    testing::{TestCluster, TestNode, eventually, within},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::program::{nano, program, run};
#[cfg(unix)]
use crate::{program::signal, terminal::Terminal};
#[cfg(unix)]
use rustix::process::Signal;

struct Room;

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Join", Self::join).on("Name", Self::name)
    }
}

impl Room {
    fn join(&self, session: &Session, user: i64) -> Result<i64> {
        session.bind(user)?;
        Ok(user)
    }

    fn name(&self, session: &Session, user: String) -> Result<String> {
        session.bind(user.clone())?;
        Ok(user)
    }
}

fn app() -> App {
    App::new()
        .component(Room)
        .tcp("127.0.0.1:0")
        .admin(Admin::new("127.0.0.1:0").token("secret"))
}

fn url(node: &TestNode) -> String {
    format!("http://{}", node.handle().admin_address().unwrap())
}

#[tokio::test]
async fn members_are_listed_with_their_links() {
    let cluster =
        TestCluster::with_master(app(), TestCluster::master_options().label("lobby")).await;
    let options: Cluster = cluster.member_options().label("\u{1b}[31mred\u{9b}2J");
    let room = TestNode::start(app().cluster(options).version("1.4.2")).await;
    cluster.converged(&[&room]).await;
    let url = url(cluster.master());

    let out = nano(&["members", "--url", &url]).await.ok();
    let mut lines = out.lines();
    assert!(lines.next().unwrap().starts_with("ADDRESS"), "{out}");
    assert!(lines.next().unwrap().contains("this node"), "{out}");
    let member = lines.next().unwrap();
    assert!(
        member.contains("\\u{1b}[31mred\\u{9b}2J  member  1.4.2  ") && member.contains("Room"),
        "{out}"
    );

    let json = nano(&["members", "--url", &url, "--json"]).await;
    let top = nano(&["top", "--url", &url, "--frames", "1", "--interval", "200ms"]).await;
    for said in [&out, &json.out, &top.out] {
        let obeyed = |letter: char| letter.is_control() && letter != '\n';
        assert!(
            said.contains("31mred") && !said.contains(obeyed),
            "{said:?}"
        );
    }
    let answer = json.json();
    assert_eq!(answer["members"][1]["label"], "\u{1b}[31mred\u{9b}2J");
    assert_eq!(answer["members"][1]["load"]["clients"], 0, "{answer}");
    assert!(out.starts_with("ADDRESS") && out.contains("CPU"), "{out}");
}

#[tokio::test]
async fn members_that_are_lost_are_listed_until_they_return() {
    let options = TestCluster::master_options().heartbeat(Duration::from_millis(100));
    let cluster = TestCluster::with_master(app(), options).await;
    let options = cluster.member_options().label("room");
    let mut room =
        TestNode::start(app().cluster(options.heartbeat(Duration::from_millis(100)))).await;
    cluster.converged(&[&room]).await;
    let url = url(cluster.master());
    let members = async || nano(&["members", "--url", &url]).await.ok();
    assert!(!members().await.contains("lost"));

    let address = room.handle().member().unwrap().address().to_owned();
    room.kill();
    eventually("it is evicted", || {
        cluster.master().handle().members().is_empty()
    })
    .await;
    // What the members report is asked for anew every two seconds.
    let listed = async {
        loop {
            let out = members().await;
            if out.lines().count() > 2 {
                return out;
            }
        }
    };
    let out = within("the lost member", listed).await;
    let lost = out.lines().nth(2).unwrap();
    assert!(lost.starts_with(&address), "{out}");
    assert!(lost.contains("room") && lost.contains("lost for "), "{out}");
    let answer = nano(&["members", "--url", &url, "--json"]).await.json();
    assert_eq!(answer["lost"][0]["address"], address);
    assert!(answer["lost"][0]["evicted_ms"].is_u64(), "{answer}");
}

#[tokio::test]
async fn sessions_are_listed_in_pages_inspected_and_kicked() {
    let node = TestNode::start(app()).await;
    let url = url(&node);
    let mut clients = Vec::new();
    for user in 0..4 {
        let client = node.client().await;
        within(
            "a join",
            client.request::<i64, _>("Room.Join", &(user % 3 + 7)),
        )
        .await
        .unwrap();
        clients.push(client);
    }
    let named = node.client().await;
    within("a join", named.request::<String, _>("Room.Name", &"7"))
        .await
        .unwrap();

    let list = nano(&["sessions", "--url", &url, "--limit", "2"]).await;
    assert!(
        list.errors.contains("2 of 5 sessions; more: --after "),
        "{list:?}"
    );
    assert_eq!(list.ok().lines().count(), 3);
    let page = nano(&["sessions", "--url", &url, "--limit", "2", "--json"])
        .await
        .json();
    let after = page["next"].to_string();
    let rest = nano(&["sessions", "--url", &url, "--after", &after, "--json"])
        .await
        .json();
    assert_eq!(rest["sessions"].as_array().unwrap().len(), 3);

    let of_user = nano(&["sessions", "--url", &url, "--user", "8", "--json"])
        .await
        .json();
    assert_eq!(of_user["elsewhere"], serde_json::json!([]));
    let id = of_user["sessions"][0]["id"].to_string();
    let one = nano(&["sessions", "--url", &url, &id]).await.ok();
    assert!(
        one.lines()
            .any(|line| line.starts_with("user ") && line.ends_with(" 8")),
        "{one}"
    );

    for (name, value) in [("groups ", " -"), ("messages received ", " 1")] {
        let is_line = |line: &str| line.starts_with(name) && line.ends_with(value);
        assert!(one.lines().any(is_line), "{one}");
    }
    let all = nano(&["sessions", "--url", &url]).await.ok();
    let titles: Vec<_> = all.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        titles[4..],
        ["MESSAGES", "RECEIVED", "SENT", "QUEUED", "IN", "FLIGHT"]
    );

    nano(&["kick", "--url", &url, &id])
        .await
        .failed(4, "NANO_ADMIN_TOKEN");
    nano(&["kick", "--url", &url, &id, "--token", "wrong"])
        .await
        .failed(4, "wrong");
    // An argument comes before the variable.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong-too\n").unwrap();
    let mut kick = program();
    kick.env("NANO_ADMIN_TOKEN", "secret")
        .args(["kick", "--url", &url, &id, "--token-file"])
        .arg(file.path());
    run(&mut kick, "").await.failed(4, "wrong");
    let mut kick = program();
    kick.env("NANO_ADMIN_TOKEN", "secret")
        .args(["kick", "--url", &url, &id, "--reason", "spam"]);
    assert_eq!(run(&mut kick, "").await.ok(), "kicked 1 session\n");
    let reason = within("the kick", clients[1].closed()).await;
    assert_eq!(reason.to_string(), "kicked: spam");

    // Of the user 7, and of the one with the text "7".
    let kicked = nano(&["kick", "--url", &url, "--user", "7", "--token", "secret"]).await;
    assert_eq!(kicked.ok(), "kicked 3 sessions\n");
    within("the kick", named.closed()).await;
    let again = nano(&["kick", "--url", &url, "--user", "7", "--token", "secret"]).await;
    again.failed(1, "no node has a session of the user 7");
    nano(&["kick", "--url", &url, "99", "--token", "secret"])
        .await
        .failed(1, "no session 99");
}

#[tokio::test]
async fn a_drain_waits_until_the_node_has_stopped() {
    let node = TestNode::start(app()).await;
    let client = node.client().await;
    let url = url(&node);
    let mut process = program()
        .args([
            "drain", "--url", &url, "--token", "secret", "--for", "5m", "--wait",
        ])
        .spawn()
        .unwrap();
    let mut says = BufReader::new(process.stderr.take().unwrap()).lines();
    let first = within("the sessions", says.next_line()).await.unwrap();
    assert_eq!(first.unwrap(), "1 session");
    let handle = node.handle();
    eventually("the drain", || !handle.is_ready()).await;
    assert!(process.try_wait().unwrap().is_none());
    client.close();
    let status = within("the end", process.wait()).await.unwrap();
    assert!(status.success(), "{status}");
    nano(&["members", "--url", &url])
        .await
        .failed(3, "Connection refused");
}

#[tokio::test]
async fn failures_have_a_message_and_a_code() {
    nano(&[]).await.failed(2, "Usage");
    nano(&["frobnicate"]).await.failed(2, "unrecognized");
    nano(&["kick"]).await.failed(2, "required");
    nano(&["kick", "1", "--user", "2"])
        .await
        .failed(2, "cannot be used");
    nano(&["drain"]).await.failed(2, "--now");
    nano(&["drain", "--for", "soon"])
        .await
        .failed(2, "duration");
    nano(&["members", "--url", "ftp://x"])
        .await
        .failed(2, "not an address");
    nano(&["members", "--token-file", "/does/not/exist"])
        .await
        .failed(2, "/does/not/exist");
    nano(&["members", "--token", "a\nb"])
        .await
        .failed(2, "header");
    nano(&["top", "--interval", "1ms"]).await.failed(2, "200ms");
    nano(&["top"]).await.failed(2, "terminal");

    // A port that is no admin server: a game's listener, and one that says nothing sensible.
    let node = TestNode::start(app()).await;
    let game = format!("http://{}", node.client_address());
    nano(&["members", "--url", &game])
        .await
        .failed(3, "no answer from");
    let admin = format!("https://{}", node.handle().admin_address().unwrap());
    nano(&["members", "--url", &admin])
        .await
        .failed(3, "is it http://?");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n<p>",
            "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
            "SSH-2.0-x\r\n",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    nano(&["members", "--url", &url])
        .await
        .failed(1, "no admin server");
    nano(&["members", "--url", &url])
        .await
        .failed(1, "no admin server");
    nano(&["members", "--url", &url])
        .await
        .failed(3, "(is this an admin server?)");
}

/// A stand-in for a node whose cluster has a gate that hangs: it knows its own sessions alone.
async fn node_beside_a_gate_that_hangs() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let session = r#"{"id": 5, "user": 7, "address": null, "client": "local"}"#;
    let page = format!(r#"{{"sessions": [{session}], "next": null, "total": 1}}"#);
    let unknown = r#"{"code": "UNAVAILABLE", "message": "the member cannot be reached"}"#;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = String::new();
            let is_whole = |request: &str| match request.starts_with("POST") {
                true => request.ends_with('}'),
                false => request.ends_with("\r\n\r\n"),
            };
            while !is_whole(&request) {
                let mut bytes = [0; 1024];
                let count = stream.read(&mut bytes).await.unwrap();
                request.push_str(str::from_utf8(&bytes[..count]).unwrap());
            }
            let (status, body) = match request.contains(" /api/v1/users/") {
                false => ("200 OK", &*page),
                true if request.ends_with("\"user\":7}") => ("200 OK", r#"{"kicked": 1}"#),
                true => ("503 Service Unavailable", unknown),
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn what_a_node_has_of_a_user_is_shown_although_a_gate_does_not_answer() {
    let url = node_beside_a_gate_that_hangs().await;
    let found = nano(&["sessions", "--url", &url, "--user", "7"]).await;
    assert!(found.errors.contains("the member cannot be reached"));
    assert!(found.ok().lines().nth(1).unwrap().starts_with("5   7"));
    let json = nano(&["sessions", "--url", &url, "--user", "7", "--json"]).await;
    assert_eq!(json.json()["elsewhere"], serde_json::Value::Null);

    let kick = ["kick", "--url", &url, "--token", "secret", "--user"];
    let kicked = nano(&[&kick[..], &["7"]].concat()).await;
    assert!(kicked.errors.contains("the member cannot be reached"));
    assert_eq!(kicked.ok(), "kicked 1 session\n");
    let unknown = nano(&[&kick[..], &["ann"]].concat()).await;
    unknown.failed(1, "the member cannot be reached");
}

#[tokio::test]
async fn top_goes_on_while_its_node_is_away() {
    let node = TestNode::start(app()).await;
    let url = url(&node);
    let client = node.client().await;
    within("a join", client.request::<i64, _>("Room.Join", &7))
        .await
        .unwrap();
    let mut process = program()
        .args([
            "top",
            "--url",
            &url,
            "--interval",
            "200ms",
            "--frames",
            "1000",
        ])
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut until = async |text: &str| {
        let found = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(text) {
                    return;
                }
            }
            panic!("the end of the output before {text:?}")
        };
        within(text, found).await;
    };
    until("ready").await;
    until("Room.Join").await;
    client.close();
    node.stop().await;
    until("no answer from").await;
    assert!(process.try_wait().unwrap().is_none());
}

#[cfg(unix)]
#[tokio::test]
async fn top_fits_a_small_terminal() {
    let cluster = TestCluster::with_master(
        App::new().component(Room),
        TestCluster::master_options().label("room"),
    )
    .await;
    let gate = App::new()
        .tcp("127.0.0.1:0")
        .admin("127.0.0.1:0")
        .cluster(cluster.member_options());
    let table: Group = Group::new("table 1");
    let gate =
        TestNode::start(gate.on_session_open(move |session| table.add(session).map(drop))).await;
    cluster.converged(&[&gate]).await;
    let client = gate.client().await;
    within("a join", client.request::<i64, _>("Room.Join", &7))
        .await
        .unwrap();

    let mut terminal = Terminal::open(80, 24);
    let mut top =
        terminal.run(program().args(["top", "--url", &url(&gate), "--interval", "200ms"]));
    terminal.shows("\x1b[H").await;
    let picture = terminal.shows("\x1b[J").await;
    let lines: Vec<_> = picture.lines().collect();
    assert!(lines.len() <= 24, "{picture}");
    let under = |head: &str| {
        let at = lines.iter().position(|line| line.contains(head));
        let at = at.unwrap_or_else(|| panic!("no {head:?} in {picture}"));
        lines[at + 1]
    };
    assert!(under("FORWARDED").starts_with("Room.Join "), "{picture}");
    assert!(under("GROUP").starts_with("table 1 "), "{picture}");

    // Keys leave the picture as it is.
    terminal.type_keys("zzz\r");
    for _ in 0..2 {
        let picture = terminal.shows("\x1b[J").await;
        assert!(!picture.contains('z'), "{picture}");
    }

    // Ctrl-C ends it, and gives the terminal its content back; q does, too.
    signal(&top, Signal::INT);
    terminal.shows("\x1b[?1049l").await;
    let status = within("the end", top.wait()).await.unwrap();
    assert!(status.success(), "{status}");

    let mut terminal = Terminal::open(80, 24);
    let mut top = terminal.run(program().args(["top", "--url", &url(&gate)]));
    terminal.shows("\x1b[J").await;
    terminal.type_keys("Qzq");
    terminal.shows("\x1b[?1049l").await;
    let status = within("the end", top.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}
