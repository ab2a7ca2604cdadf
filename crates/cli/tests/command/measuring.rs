//! `bench`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use nano::{
    App, Component, Error, Handlers, Result, Session,
    testing::{TestNode, eventually},
};
use serde_json::Value;

use crate::program::{Ended, interrupt, nano, program};

#[derive(Default)]
struct Room {
    answers: Arc<AtomicU64>,
}

impl Room {
    fn echo(&self, _: &Session, body: Value) -> Result<Value> {
        self.answers.fetch_add(1, Relaxed);
        match body {
            Value::Null => Err(Error::new("ROOM-1", "no \u{1b}[31mbody")),
            body => Ok(body),
        }
    }

    fn leave(&self, session: &Session, _: Value) -> Result {
        session.kick("left");
        Ok(())
    }
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Echo", Self::echo).on("Leave", Self::leave)
    }
}

async fn bench(arguments: &[&str]) -> (TestNode, Ended) {
    let node = TestNode::start(App::new().component(Room::default()).tcp("127.0.0.1:0")).await;
    let url = format!("tcp://{}", node.client_address());
    let times = ["--warmup", "10ms", "--time", "200ms", "--clients", "4"];
    let command = [&["bench", &url], arguments, &times].concat();
    let ended = nano(&command).await;
    (node, ended)
}

#[tokio::test]
async fn answers_are_counted_and_timed() {
    let (_node, ended) = bench(&["Room.Echo", "{\"n\": 1}", "--in-flight", "2", "--json"]).await;
    let report = ended.json();
    let answers = report["answers"].as_u64().unwrap();
    assert!(answers > 0, "{report}");
    assert_eq!(
        (&report["failed"], &report["clients"]),
        (&0.into(), &4.into())
    );
    let per_second = report["per_second"].as_f64().unwrap();
    assert!((per_second * 0.2 - answers as f64).abs() < 2.0, "{report}");
    let times = ["p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "max_ms"];
    let times = times.map(|name| report["latency"][name].as_f64().unwrap());
    assert!(times[0] > 0.0 && times.is_sorted(), "{report}");
}

#[tokio::test]
async fn a_rate_is_kept_whatever_the_answers_do() {
    let (_node, ended) = bench(&["Room.Echo", "1", "--rate", "500", "--json"]).await;
    let report = ended.json();
    // 200 ms.
    let answers = report["answers"].as_u64().unwrap();
    assert!((98..=102).contains(&answers), "{report}");
}

#[tokio::test]
async fn failures_are_reported_and_fail_the_command() {
    let (_node, ended) = bench(&["Room.Echo"]).await;
    assert!(
        ended.out.contains("ROOM-1: no \\u{1b}[31mbody"),
        "{ended:?}"
    );
    ended.failed(1, "requests failed");
    // A client that was kicked sends nothing more.
    let (_node, ended) = bench(&["Room.Leave"]).await;
    ended.failed(1, "4 requests failed");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_run_reports_what_it_has_measured() {
    use rustix::process::Signal;

    for (signal, load) in [
        (Signal::INT, ["--in-flight", "2"]),
        (Signal::TERM, ["--rate", "200"]),
    ] {
        let room = Room::default();
        let answers = room.answers.clone();
        let node = TestNode::start(App::new().component(room).tcp("127.0.0.1:0")).await;
        let url = format!("tcp://{}", node.client_address());
        let mut bench = program();
        bench
            .args(["bench", &url, "Room.Echo", "1", "--json", "--clients", "4"])
            .args(["--warmup", "0ms", "--time", "1h"])
            .args(load);
        let process = bench.spawn().unwrap();
        eventually("answers", || answers.load(Relaxed) >= 100).await;
        let ended = interrupt(process, signal).await;
        assert_eq!(ended.code, 130, "{ended:?}");
        assert_eq!(ended.errors, "nano: interrupted\n");
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        // Those on their way are neither answered nor failed.
        let answered = report["answers"].as_u64().unwrap();
        assert!(answered >= 100 - 8, "{report}");
        assert!(answered <= answers.load(Relaxed), "{report}");
        assert_eq!(report["failed"], 0);
    }
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused() {
    for wrong in [
        &["Room.Echo", "{"][..],
        &["Room.Echo", "1", "--rate", "0"],
        &["Room.Echo", "1", "--rate", "nan"],
        &["Room.Echo", "1", "--rate", "5", "--in-flight", "2"],
        &["Room.Echo", "1", "--in-flight", "0"],
        &[],
    ] {
        bench(wrong).await.1.failed(2, "");
    }
    let instant = ["bench", "tcp://127.0.0.1:1", "Room.Echo", "--time", "0s"];
    nano(&instant).await.failed(2, "longer than zero");
    let nowhere = ["bench", "tcp://127.0.0.1:1", "Room.Echo"];
    nano(&nowhere).await.failed(3, "tcp://127.0.0.1:1");
    let wrong = ["bench", "http://127.0.0.1:1", "Room.Echo"];
    nano(&wrong)
        .await
        .failed(2, "it does not start with tcp://");
}
