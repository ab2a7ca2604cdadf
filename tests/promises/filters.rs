//! In which order filters run, what they may decide, and what becomes of messages they end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nano::{
    App, Component, Error, Handlers, Options, Result, Session, Timeouts,
    client::Client,
    code,
    filter::{self, AsyncFilter, Context, Filter, Flow, Outcome},
    testing::TestNode,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::support::{eventually, within};

/// What happened, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// Writes down when it runs, and does what a message that begins with its name says.
struct Scribe(&'static str, Log);

impl Scribe {
    fn write(&self, step: &str) {
        self.1.lock().push(format!("{} {step}", self.0));
    }
}

impl Filter for Scribe {
    fn before(&self, call: &mut Context<'_>) -> Result<Flow> {
        self.write("before");
        let Some(text) = call.message_mut::<String>() else {
            return Ok(Flow::Continue);
        };
        match text.strip_prefix(self.0).map(str::trim) {
            Some("refuse") => Err(Error::new("REFUSED", self.0)),
            Some("answer") => Ok(Flow::reply("answered".to_owned())),
            Some("bytes") => Ok(Flow::raw(r#""bytes""#)),
            Some("number") => Ok(Flow::reply(7)),
            Some("panic") => panic!("a test's panic"),
            Some("change") => {
                "changed".clone_into(text);
                Ok(Flow::Continue)
            }
            _ => Ok(Flow::Continue),
        }
    }

    fn after(&self, call: &Context<'_>, outcome: &mut Outcome<'_>) {
        let ran = outcome.took().is_some();
        self.write(match outcome.error() {
            Some(error) => error.code().as_str(),
            None if ran => "after",
            None => "after an answer",
        });
        assert!(call.message::<String>().is_none());
        if let Some(reply) = outcome.reply_mut::<String>() {
            match reply.strip_prefix(self.0) {
                Some(" late refuse") => outcome.fail(Error::new("LATE", "no")),
                Some(" late panic") => panic!("a test's panic"),
                Some(" late change") => "changed late".clone_into(reply),
                _ => {}
            }
        }
    }
}

struct Desk(Log);

impl Component for Desk {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Echo", Self::echo)
            .on("Wait", Self::wait)
            .on("Ask", Self::ask)
            .on("Tell", Self::tell)
    }
}

impl Desk {
    fn echo(&self, _: &Session, text: String) -> Result<String> {
        self.0.lock().push("handler".to_owned());
        match &*text {
            "fail" => Err(Error::new("FAILED", "no")),
            "panic" => panic!("a test's panic"),
            _ => Ok(text),
        }
    }

    async fn wait(self: Arc<Self>, session: Session, text: String) -> Result<String> {
        tokio::task::yield_now().await;
        self.echo(&session, text)
    }

    async fn ask(self: Arc<Self>, session: Session, text: String) -> Result<String> {
        session.call("Desk.Echo").json(&text).await
    }

    fn tell(&self, session: &Session, text: String) -> Result<bool> {
        session.rpc("Desk.Echo", &text)?;
        Ok(true)
    }
}

/// A node with two filters, and one on its service.
async fn desk() -> (TestNode, Client, Log) {
    let log = Log::default();
    let options = Options::new().filter(Scribe("service", log.clone()));
    let app = App::new()
        .component_with(Desk(log.clone()), options)
        .filter(Scribe("node", log.clone()))
        .filter(Scribe("second", log.clone()));
    let node = serve(app).await;
    let client = node.client().await;
    (node, client, log)
}

pub(crate) async fn serve(app: App) -> TestNode {
    TestNode::start(app.tcp("127.0.0.1:0")).await
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock())
}

const AROUND: [&str; 7] = [
    "node before",
    "second before",
    "service before",
    "handler",
    "service after",
    "second after",
    "node after",
];

async fn echo(client: &Client, text: &str) -> Result<String, String> {
    let reply = client.request::<String, _>("Desk.Echo", text).await;
    reply.map_err(|error| error.code().to_string())
}

#[tokio::test]
async fn filters_run_from_the_outside_in_and_back() {
    let (_node, client, log) = desk().await;
    for route in ["Desk.Echo", "Desk.Wait"] {
        let reply: String = client.request(route, "hello").await.unwrap();
        assert_eq!(reply, "hello");
        assert_eq!(taken(&log), AROUND, "{route}");
    }
}

#[tokio::test]
async fn filters_run_for_notifies_rpc_and_calls() {
    let (node, client, log) = desk().await;
    client.notify("Desk.Echo", "hello").await.unwrap();
    eventually("the notify is handled", || log.lock().len() == AROUND.len()).await;
    assert_eq!(taken(&log), AROUND);

    for route in ["Desk.Ask", "Desk.Tell"] {
        let _: serde_json::Value = client.request(route, "hello").await.unwrap();
        let all = 2 * AROUND.len() - 1;
        eventually("both handlers have run", || log.lock().len() == all).await;
        let log = taken(&log);
        assert_eq!(
            log.iter().filter(|step| *step == "node after").count(),
            2,
            "{log:?}"
        );
    }
    let reply: String = node.handle().call("Desk.Echo").json("hello").await.unwrap();
    assert_eq!(reply, "hello");
    assert_eq!(taken(&log), AROUND);
}

#[tokio::test]
async fn the_filters_ahead_of_one_that_ends_a_message_see_its_end() {
    let (_node, client, log) = desk().await;
    let ahead = ["node before", "second before"];
    let steps = |end: &str| {
        let mut steps = ahead.map(str::to_owned).to_vec();
        steps.push(format!("node {end}"));
        steps
    };
    for (text, reply, end) in [
        ("second refuse", Err("REFUSED"), "REFUSED"),
        (
            "second panic",
            Err(code::INTERNAL.as_str()),
            code::INTERNAL.as_str(),
        ),
        ("second answer", Ok("answered"), "after an answer"),
        ("second bytes", Ok("bytes"), "after an answer"),
        (
            "second number",
            Err(code::INTERNAL.as_str()),
            code::INTERNAL.as_str(),
        ),
    ] {
        let expected = reply.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(echo(&client, text).await, expected, "{text}");
        assert_eq!(taken(&log), steps(end), "{text}");
    }
    assert_eq!(echo(&client, "still here").await.unwrap(), "still here");
}

#[tokio::test]
async fn a_filter_may_change_the_message_the_reply_and_the_error() {
    let (_node, client, log) = desk().await;
    assert_eq!(echo(&client, "second change").await.unwrap(), "changed");
    let late = echo(&client, "service late change").await;
    assert_eq!(late.unwrap(), "changed late");
    taken(&log);

    for (text, code) in [
        ("service late refuse", "LATE"),
        ("service late panic", code::INTERNAL.as_str()),
    ] {
        assert_eq!(echo(&client, text).await.unwrap_err(), code);
        let log = taken(&log);
        assert_eq!(
            log[4..],
            [
                "service after".to_owned(),
                format!("second {code}"),
                format!("node {code}")
            ]
        );
    }
}

#[tokio::test]
async fn every_filter_sees_the_end_of_a_handler_that_fails_once() {
    let (_node, client, log) = desk().await;
    for route in ["Desk.Echo", "Desk.Wait"] {
        for (text, code) in [("fail", "FAILED"), ("panic", code::INTERNAL.as_str())] {
            let error = client.request::<String, _>(route, text).await.unwrap_err();
            assert_eq!(error.code(), code, "{route} {text}");
            let log = taken(&log);
            let after = ["service", "second", "node"].map(|filter| format!("{filter} {code}"));
            assert_eq!(log[4..], after, "{route} {text}");
        }
    }
}

/// The first that asks ends the time of an async handler; a later one does not ask the clock again.
#[tokio::test]
async fn all_filters_see_the_same_time_of_a_handler() {
    let times: Arc<Mutex<Vec<Option<Duration>>>> = Arc::default();
    let ask = || {
        let times = times.clone();
        filter::after(move |_, outcome| times.lock().push(outcome.took()))
    };
    let app = App::new().component(Desk(Log::default()));
    let node = serve(app.filter(ask()).filter(ask())).await;
    let client = node.client().await;
    for route in ["Desk.Echo", "Desk.Wait"] {
        let _: String = client.request(route, "hello").await.unwrap();
        let seen = std::mem::take(&mut *times.lock());
        assert!(
            matches!(seen[..], [Some(first), Some(second)] if first == second),
            "{route}: {seen:?}"
        );
    }
}

#[tokio::test]
async fn a_panic_is_named_after_what_panicked() {
    let (_node, client, log) = desk().await;
    for route in ["Desk.Echo", "Desk.Wait"] {
        for (text, named) in [
            ("node panic", "a filter panicked"),
            ("service panic", "a filter panicked"),
            ("panic", "the handler panicked"),
            ("second late panic", "a filter panicked"),
        ] {
            let error = client.request::<String, _>(route, text).await.unwrap_err();
            assert_eq!((error.code(), error.message()), (code::INTERNAL, named));
            let seen = taken(&log).last().cloned();
            let expected = match text {
                "node panic" => "node before",
                _ => "node NANO-500",
            };
            assert_eq!(seen.as_deref(), Some(expected), "{route} {text}");
        }
    }
}

#[tokio::test]
async fn a_filter_on_a_route_runs_there_only_and_last() {
    struct Gate(Log);

    impl Component for Gate {
        fn handlers(h: Handlers<Self>) -> Handlers<Self> {
            let log = Log::default();
            let h = h.on("Plain", |gate: &Self, _: &Session, _: ()| {
                Ok::<_, Error>(std::mem::take(&mut *gate.0.lock()))
            });
            h.on("Checked", |gate: &Self, _: &Session, _: ()| {
                gate.0.lock().push("handler".to_owned());
                Ok::<_, Error>(())
            })
            .filter(filter::before(move |call| {
                log.lock().push(call.route().to_owned());
                match log.lock().len() {
                    1 => Ok(Flow::Continue),
                    _ => Err(Error::new("TWICE", "no")),
                }
            }))
        }
    }

    let log = Log::default();
    let options = Options::new().filter(Scribe("service", log.clone()));
    let app = App::new().component_with(Gate(log.clone()), options);
    let node = serve(app).await;
    let client = node.client().await;
    client.notify("Gate.Checked", &()).await.unwrap();
    client.notify("Gate.Checked", &()).await.unwrap();
    let steps: Vec<String> = client.request("Gate.Plain", &()).await.unwrap();
    let expected = ["before", "handler", "after", "before", "TWICE", "before"];
    let expected = expected.map(|step| match step {
        "handler" => step.to_owned(),
        step => format!("service {step}"),
    });
    assert_eq!(steps, expected);
}

/// Waits for a permit before each message that begins with `slow`.
#[derive(Clone)]
struct Admission {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl AsyncFilter for Admission {
    async fn before(&self, call: &mut Context<'_>) -> Result<Flow> {
        let text = call.message::<String>().cloned().unwrap_or_default();
        if text.starts_with("slow") {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.permits.acquire().await?.forget();
        }
        match &*text {
            "slow refuse" => Err(Error::new("REFUSED", "no")),
            "slow panic" => panic!("a test's panic"),
            "slow answer" => Ok(Flow::reply("answered".to_owned())),
            _ => Ok(Flow::Continue),
        }
    }
}

impl Admission {
    async fn waits(&self, count: usize) {
        eventually("a filter waits", || {
            self.waiting.load(Ordering::SeqCst) == count
        })
        .await;
    }
}

/// Writes down what it gets.
struct Book(Log);

impl Component for Book {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Write", |book: &Self, _: &Session, text: String| {
            book.0.lock().push(text.clone());
            Ok::<_, Error>(text)
        })
        .on("Later", Self::later)
    }
}

impl Book {
    async fn later(self: Arc<Self>, _: Session, text: String) -> Result<String> {
        self.0.lock().push(text.clone());
        tokio::task::yield_now().await;
        Ok(text)
    }
}

async fn admission(timeouts: Timeouts) -> (TestNode, Log, Log, Admission) {
    let (book, steps) = (Log::default(), Log::default());
    let filter = Admission {
        permits: Arc::new(Semaphore::new(0)),
        waiting: Arc::default(),
    };
    let app = App::new()
        .timeouts(timeouts)
        .filter(Scribe("node", steps.clone()))
        .filter(filter.clone())
        .component(Book(book.clone()));
    (serve(app).await, book, steps, filter)
}

#[tokio::test]
async fn an_async_filter_keeps_its_sessions_order_and_holds_up_no_other() {
    let (node, book, _, filter) = admission(Timeouts::new()).await;
    let (client, other) = (node.client().await, node.client().await);
    let texts = ["slow one", "two", "slow three", "four"];
    for (text, route) in texts.iter().zip(["Write", "Later"].iter().cycle()) {
        client.notify(&format!("Book.{route}"), text).await.unwrap();
    }
    let expected = ["other", "slow one", "two", "slow three", "four"];
    for (waiting, written) in [(1, 1), (2, 3)] {
        filter.waits(waiting).await;
        if waiting == 1 {
            let _: String = other.request("Book.Write", "other").await.unwrap();
        }
        assert_eq!(*book.lock(), expected[..written]);
        filter.permits.add_permits(1);
    }
    eventually("all are handled", || book.lock().len() == expected.len()).await;
    assert_eq!(*book.lock(), expected);
}

#[tokio::test]
async fn an_async_filter_may_refuse_answer_and_panic() {
    let (node, book, steps, filter) = admission(Timeouts::new()).await;
    let client = node.client().await;
    filter.permits.add_permits(4);
    for (text, expected) in [
        ("slow refuse", Err("REFUSED")),
        ("slow answer", Ok("answered")),
        ("slow panic", Err(code::INTERNAL.as_str())),
        ("slow pass", Ok("slow pass")),
    ] {
        let reply = client.request::<String, _>("Book.Write", text).await;
        let reply = reply.map_err(|error| error.code().to_string());
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(reply, expected, "{text}");
    }
    assert_eq!(*book.lock(), ["slow pass"]);
    let after: Vec<_> = steps.lock().iter().skip(1).step_by(2).cloned().collect();
    let ends = [
        "REFUSED",
        "after an answer",
        code::INTERNAL.as_str(),
        "after",
    ];
    assert_eq!(after, ends.map(|end| format!("node {end}")));
}

#[tokio::test]
async fn an_async_filter_that_never_ends_is_given_up_after_the_request_timeout() {
    let timeouts = Timeouts::new().request(Duration::from_millis(200));
    let (node, book, steps, filter) = admission(timeouts).await;
    let client = node.client().await;
    let slow = client.request::<String, _>("Book.Write", "slow");
    let next = client.notify("Book.Write", "next");
    let (slow, next) = within("the filter is given up", async { tokio::join!(slow, next) }).await;
    assert_eq!(slow.unwrap_err().code(), code::TIMEOUT);
    next.unwrap();
    eventually("the next message is handled", || *book.lock() == ["next"]).await;
    assert_eq!(filter.waiting.load(Ordering::SeqCst), 1);
    assert_eq!(steps.lock()[1], format!("node {}", code::TIMEOUT));
}
