//! `repl` and `bots`.

use std::{fs, path::PathBuf};

use nano::{
    Admin, App, Component, Error, Group, Handlers, Result, Session,
    testing::{TestNode, eventually, within},
};
#[cfg(unix)]
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    program::{Ended, interrupt, nano, program, run, signal},
    terminal::Terminal,
};

#[derive(Default)]
pub(crate) struct Room(Group);

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Echo", Self::echo)
            .on("Say", Self::say)
            .on("Fail", Self::fail)
            .on("Leave", Self::leave)
    }
}

impl Room {
    fn echo(&self, _: &Session, body: Value) -> Result<Value> {
        Ok(body)
    }

    fn say(&self, session: &Session, body: Value) -> Result {
        self.0.add(session)?;
        session.push("onSaid", &body)
    }

    fn fail(&self, _: &Session, _: Value) -> Result<Value> {
        Err(Error::new("ROOM-1", "no \u{1b}[31mway"))
    }

    fn leave(&self, session: &Session, _: Value) -> Result {
        session.kick("left");
        Ok(())
    }
}

async fn node() -> (TestNode, String) {
    let app = App::new()
        .component(Room::default())
        .dictionary([("Room.Echo", 1)])
        .tcp("127.0.0.1:0")
        .admin(Admin::new("127.0.0.1:0").token("secret"));
    let node = TestNode::start(app).await;
    let url = address(&node);
    (node, url)
}

pub(crate) fn address(node: &TestNode) -> String {
    format!("tcp://{}", node.client_address())
}

pub(crate) async fn repl(url: &str, flags: &[&str], script: &str) -> Ended {
    run(program().args(["repl", url]).args(flags), script).await
}

#[tokio::test]
async fn a_script_sends_messages_and_prints_what_comes_back() {
    let (_node, url) = node().await;
    let script = "
        # comments and empty lines are left out
        request Room.Echo {\"a\": [1, \"ü\"]}
        on onSaid
        notify Room.Say {\"n\": 1}
        wait onSaid
        off onSaid
        notify Room.Say {\"n\": 2}
        request Room.Echo
        routes";
    let out = repl(&url, &[], script).await.ok();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(
        lines,
        [
            "{\"a\":[1,\"ü\"]}",
            "onSaid {\"n\":1}",
            "null",
            "Room.Echo",
            "Room.Say"
        ]
    );

    let out = repl(
        &url,
        &["--json"],
        "r Room.Echo 7\non *\nn Room.Say 8\nwait onSaid",
    )
    .await
    .ok();
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["response"], &lines[0]["body"]),
        (&json!("Room.Echo"), &json!(7))
    );
    assert_eq!(lines[1], json!({"push": "onSaid", "body": 8}));
}

#[tokio::test]
async fn a_script_ends_with_its_first_failure() {
    let (node, url) = node().await;
    for (script, says) in [
        ("request Room.Fail {}", "line 1: ROOM-1: no \\u{1b}[31mway"),
        ("request Room.Echo 1\nrequest Room.None", "line 2: NANO-404"),
        ("request Room.Echo {", "line 1: the body is not JSON"),
        ("frobnicate", "no command"),
        ("wait onSaid", "not printed"),
        (
            "on onSaid\nwait onSaid 50ms",
            "no push onSaid within 50.0ms",
        ),
        ("request Room.Leave\nrequest Room.Echo", "kicked: left"),
    ] {
        let ended = repl(&url, &[], &format!("{script}\nrequest Room.Echo \"later\"")).await;
        assert!(!ended.out.contains("later"), "{ended:?}");
        ended.failed(1, says);
    }
    let ended = repl(
        &url,
        &["--keep-going"],
        "request Room.Fail\nrequest Room.Echo 1",
    )
    .await;
    assert_eq!(ended.out, "1\n");
    ended.failed(1, "1 commands failed");

    repl("tcp://127.0.0.1:1", &[], "")
        .await
        .failed(3, "refused");
    repl("127.0.0.1", &[], "")
        .await
        .failed(2, "invalid address");
    // Before the node whose routes are completed is asked.
    repl("http://127.0.0.1:1", &["--admin", "http://127.0.0.1:1"], "")
        .await
        .failed(2, "ws://");
    repl(&url, &["--ca-file", "/does/not/exist"], "")
        .await
        .failed(2, "cannot read /does/not/exist");
    repl(&url, &["--user", "{"], "").await.failed(2, "not JSON");
    let admin = format!("http://{}", node.handle().admin_address().unwrap());
    let routes = repl(&url, &["--admin", &admin], "routes").await.ok();
    assert_eq!(routes, "Room.Echo\nRoom.Fail\nRoom.Leave\nRoom.Say\n");
}

#[tokio::test]
async fn a_request_without_a_response_is_explained_while_it_waits() {
    let (_node, url) = node().await;
    let script = "request Room.Say 1";
    let ended = repl(&url, &["--timeout", "1100ms"], script).await;
    assert!(
        ended.errors.contains("use `notify Room.Say`.\n"),
        "{ended:?}"
    );
    ended.failed(1, "line 1: NANO-408");
    let ended = repl(&url, &["--timeout", "900ms"], script).await;
    assert!(!ended.errors.contains("notify"), "{ended:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_gives_up_one_request() {
    let (_node, url) = node().await;
    let mut terminal = Terminal::open(80, 24);
    let mut repl = terminal.run(program().args(["repl", &url]));
    for (line, answer) in [
        ("request Room.Say 1", "Ctrl-C gives up"),
        ("request Room.Echo \"second\"", "\"second\"  ("),
        ("request Room.Say 3", "Ctrl-C gives up"),
        ("request Room.Echo \"fourth\"", "\"fourth\"  ("),
    ] {
        terminal.enter(line).await;
        terminal.shows(answer).await;
        if line.contains("Say") {
            signal(&repl, Signal::INT);
            terminal.shows("given up").await;
            // The editor gets the signal too, and gives up its next line at once.
            terminal.shows("> ").await;
        }
    }
    terminal.enter("quit").await;
    let status = within("the end", repl.wait()).await.unwrap();
    assert!(status.success(), "{status}");
    let rest = terminal.rest().await;
    assert!(!rest.contains("press Enter"), "{rest}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_lost_connection_is_announced_at_the_prompt() {
    let (node, url) = node().await;
    let mut terminal = Terminal::open(80, 24);
    let mut repl = terminal.run(program().args(["repl", &url]));
    terminal.shows("> ").await;
    node.stop().await;
    terminal.shows("press Enter to leave").await;
    terminal.enter("").await;
    let status = within("the end", repl.wait()).await.unwrap();
    assert_eq!(status.code(), Some(1));
}

#[tokio::test]
async fn a_script_ends_with_its_connection() {
    let (_node, url) = node().await;
    let ended = repl(&url, &[], "notify Room.Leave\nsleep 1h").await;
    // The line of the notify, or that of the sleep.
    let (_, fault) = ended.errors.split_once(": line ").unwrap();
    assert_eq!(&fault[1..], ": kicked: left\n", "{ended:?}");
    assert_eq!(ended.code, 1);
    // What has arrived is printed, even if the script ends with it.
    let script = "on onSaid\nnotify Room.Say 1\nrequest Room.Echo 2";
    let out = repl(&url, &[], script).await.ok();
    assert_eq!(out.lines().collect::<Vec<_>>().len(), 2, "{out}");
}

#[tokio::test]
async fn an_address_of_another_protocol_is_named() {
    let node = TestNode::start(
        App::new()
            .tcp("127.0.0.1:0")
            .websocket("127.0.0.1:0", "/nano"),
    )
    .await;
    let [tcp, ws] = node.node().addresses()[..] else {
        unreachable!("two listeners")
    };
    for (url, code, hint) in [
        (format!("tcp://{ws}"), 2, "is the address one of ws://"),
        (format!("tls://{ws}"), 3, "is the address one of tcp://"),
        (format!("tls://{tcp}"), 3, "is the address one of tcp://"),
        (
            format!("ws://{tcp}/nano"),
            3,
            "is the address one of tcp://",
        ),
        (format!("ws://{ws}/"), 3, "is the path right?"),
    ] {
        repl(&url, &[], "").await.failed(code, hint);
    }
}

/// A script in a folder that is removed with it.
fn script(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bots.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

async fn bots(url: &str, flags: &[&str], text: &str) -> Ended {
    let (_folder, path) = script(text);
    run(
        program()
            .arg("bots")
            .arg(path)
            .args(["--url", url])
            .args(flags),
        "",
    )
    .await
}

#[tokio::test]
async fn bots_play_a_script_and_their_answers_are_checked() {
    let (node, url) = node().await;
    let text = r#"
        players = { count = 20, ramp = "100ms" }
        limits = { p99 = "9s" }
        [[steps]]
        request = "Room.Echo"
        body = { name = "bot ${player}", n = "${player}" }
        expect = { name = "bot ${player}" }
        save = { number = "/n" }
        [[steps]]
        loop = 3
        steps = [
          { notify = "Room.Say", body = ["${turn}", "${number}"] },
          { push = "onSaid", expect = ["${turn}", "${player}"] },
          { wait = ["1ms", "5ms"] },
        ]
        [[steps]]
        request = "Room.Fail"
        error = "ROOM-1"
    "#;
    let report = bots(&url, &["--json"], text).await.json();
    assert_eq!(
        report["players"],
        json!({"started": 20, "finished": 20, "lost": 0, "playing": 0})
    );
    let steps = report["steps"].as_array().unwrap();
    let counts: Vec<_> = steps
        .iter()
        .map(|step| (step["name"].as_str().unwrap(), &step["count"]))
        .collect();
    let (once, thrice) = (&json!(20), &json!(60));
    let expected = [
        ("connect", once),
        ("Room.Echo", once),
        ("notify Room.Say", thrice),
        ("push onSaid", thrice),
        ("Room.Fail", once),
    ];
    assert_eq!(counts, expected);
    node.has_no_sessions().await;

    let report = bots(&url, &["--players", "3"], text).await.ok();
    assert!(
        report
            .starts_with("3 players in 0s: 3 played to the end, 0 stopped early, 0 still played\n"),
        "{report}"
    );
}

#[tokio::test]
async fn bots_fail_with_their_limits() {
    let (_node, url) = node().await;
    let step = |step: &str| format!("limits = {{ failed = 0.4 }}\nsteps = [{step}]");
    let echo = "{ request = \"Room.Echo\", body = 1, expect = 2 }";
    // One of two steps: the connection is the other one.
    let ended = bots(&url, &[], &step(echo)).await;
    assert!(
        ended.out.contains("Room.Echo: the body is 1, not 2"),
        "{ended:?}"
    );
    ended.failed(1, "1 of 2 steps failed");
    let ended = bots(
        &url,
        &[],
        &step(&format!(
            "{{ wait = \"1ms\" }}, {{ request = \"Room.Echo\" }}, {echo}"
        )),
    )
    .await;
    assert_eq!(ended.code, 0, "{ended:?}");

    let kicked = "{ request = \"Room.Leave\" }, { request = \"Room.Echo\" }";
    let ended = bots(&url, &["--json"], &step(kicked)).await;
    assert!(
        ended.out.contains("connection lost: kicked: left"),
        "{ended:?}"
    );
    assert_eq!(ended.code, 1);
    let unset = bots(
        &url,
        &[],
        &step("{ notify = \"Room.Say\", body = \"${x}\" }"),
    )
    .await;
    assert!(unset.out.contains("${x} has no value"), "{unset:?}");

    let slow = "limits = { p99 = \"0.0001ms\" }\nsteps = [{ request = \"Room.Echo\" }]";
    bots(&url, &[], slow)
        .await
        .failed(1, "Room.Echo has a p99 of");
    let ended = bots(
        &url,
        &["--time", "200ms"],
        "steps = [{ for = \"1h\", steps = [{ wait = \"5ms\" }] }]",
    )
    .await;
    assert!(
        ended
            .out
            .contains("0 played to the end, 0 stopped early, 1 still played"),
        "{ended:?}"
    );
    let refused = bots("tcp://127.0.0.1:1", &["--players", "3"], &step(echo)).await;
    assert!(refused.out.contains("cannot connect"), "{refused:?}");
    refused.failed(3, "tcp://127.0.0.1:1: NANO-503: cannot connect");
    let tolerant = "limits = { failed = 1.0 }\nsteps = [{ request = \"Room.Echo\" }]";
    bots("tcp://127.0.0.1:1", &[], tolerant).await.ok();
    let strict = App::new()
        .on_handshake(|_| Err(Error::new("401", "no token")))
        .tcp("127.0.0.1:0");
    let strict = TestNode::start(strict).await;
    let refused = bots(&address(&strict), &[], &step(echo)).await;
    refused.failed(4, "401: no token");
}

#[cfg(unix)]
#[tokio::test]
async fn interrupted_bots_report_what_they_have_done() {
    let group = Group::default();
    let app = App::new().component(Room(group.clone())).tcp("127.0.0.1:0");
    let node = TestNode::start(app).await;
    let (_folder, path) = script(
        r#"
        players = { count = 2 }
        [[steps]]
        request = "Room.Echo"
        [[steps]]
        notify = "Room.Say"
        [[steps]]
        wait = "1h"
    "#,
    );
    for signal in [Signal::INT, Signal::TERM] {
        let mut bots = program();
        bots.arg("bots")
            .arg(&path)
            .args(["--url", &address(&node), "--json"]);
        let process = bots.spawn().unwrap();
        eventually("two players", || group.count() == 2).await;
        let ended = interrupt(process, signal).await;
        assert_eq!(ended.code, 130, "{ended:?}");
        assert_eq!(ended.errors, "nano: interrupted\n");
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(report["players"]["playing"], 2, "{report}");
        let echo = &report["steps"][1];
        assert_eq!(
            (&echo["name"], &echo["count"]),
            (&json!("Room.Echo"), &json!(2))
        );
        node.has_no_sessions().await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_progress_of_bots_stays_in_its_row() {
    let (_node, url) = node().await;
    let (_folder, path) = script("steps = [{ wait = \"1h\" }]");
    let mut terminal = Terminal::open(40, 24);
    let mut bots = program();
    bots.arg("bots").arg(path).args(["--url", &url]);
    let bots = terminal.run(&mut bots);
    terminal.shows("\r").await;
    let row = terminal.shows("\x1b[K").await;
    assert!(row.starts_with("0s [...."), "{row}");
    assert!(row.trim_end_matches("\x1b[K").len() < 40, "{row}");
    signal(&bots, Signal::TERM);
    terminal.shows("still played").await;
}

#[tokio::test]
async fn a_script_that_is_not_valid_is_refused_with_the_place() {
    bots("tcp://127.0.0.1:1", &[], "steps = [{}]")
        .await
        .failed(2, "steps[0]: a step has one of");
    bots("tcp://127.0.0.1:1", &[], "url = 1")
        .await
        .failed(2, "line 1");
    nano(&["bots", "/does/not/exist"])
        .await
        .failed(2, "/does/not/exist");
    let endless = tempfile::NamedTempFile::new().unwrap();
    endless.as_file().set_len(1 << 40).unwrap();
    nano(&["bots", endless.path().to_str().unwrap()])
        .await
        .failed(2, "longer than 1 MiB");
    let (_folder, path) = script("steps = [{ wait = \"1ms\" }]");
    nano(&["bots", path.to_str().unwrap()])
        .await
        .failed(2, "no `url`");
    for url in [
        "http://127.0.0.1:1",
        "127.0.0.1:1",
        "http://gate-${player}:1",
    ] {
        let refused = bots(url, &[], "steps = [{ wait = \"1ms\" }]").await;
        assert_eq!(refused.out, "", "no player has started");
        refused.failed(2, "it does not start with tcp://");
    }
    bots(
        "tcp://127.0.0.1:1",
        &["--ca-file", "/does/not/exist"],
        "steps = [{ wait = \"1ms\" }]",
    )
    .await
    .failed(2, "cannot read /does/not/exist");
    nano(&["bots", path.to_str().unwrap(), "--players", "0"])
        .await
        .failed(2, "invalid value");
}
