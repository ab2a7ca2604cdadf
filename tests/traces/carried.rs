//! What belongs to the trace of a handler: all that it causes, and no more.

use std::{sync::Arc, time::Duration};

use nano::{
    App, Component, Handlers, Result, Scheduler, Session,
    client::Client,
    testing::{TestNode, within},
    trace,
};
use tokio::{sync::mpsc, task::yield_now};

use crate::{
    all, client_span,
    spans::{Recorded, Spans},
};

/// Reports the current trace of everything a handler can start.
struct Starter(mpsc::UnboundedSender<(&'static str, Option<String>)>);

impl Starter {
    fn report(&self, from: &'static str) -> impl FnOnce() + Send + use<> {
        let reports = self.0.clone();
        move || {
            let span = trace::current().map(|context| context.to_string());
            reports.send((from, span)).unwrap();
        }
    }

    fn start(self: &Arc<Self>, session: &Session, _: u32) -> Result {
        let scheduler = Scheduler::current().unwrap();
        scheduler.push_task(self.report("task")).unwrap();
        scheduler.delay(Duration::from_millis(1), self.report("timer"))?;
        let (first, second) = (self.report("async task"), self.report("async task, later"));
        let polled = async move {
            first();
            yield_now().await;
            second();
        };
        scheduler.spawn(polled).unwrap();
        let (outside, back) = (self.report("offloaded"), self.report("continued"));
        session.spawn(async move { outside() }, move |_, ()| {
            back();
            Ok(())
        });
        let propagated = self.report("propagated");
        let runtime = tokio::runtime::Handle::current();
        runtime.spawn(trace::propagate(async move {
            yield_now().await;
            propagated();
        }));
        let detached = self.report("spawned elsewhere");
        runtime.spawn(async move { detached() });
        let mut repeated = Some(self.report("interval"));
        scheduler.interval_n(Duration::from_millis(1), 1, move || {
            repeated.take().unwrap()();
        })?;
        Ok(())
    }

    async fn later(self: Arc<Self>, session: Session, number: u32) -> Result<u32> {
        self.report("before")();
        yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.report("after")();
        let reply: u32 = session.call("Starter.Reply").json(&number).await?;
        Ok(reply)
    }

    fn reply(&self, _: &Session, number: u32) -> Result<u32> {
        self.report("called")();
        Ok(number)
    }
}

impl Component for Starter {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Start", Self::start)
            .on("Later", Self::later)
            .on("Reply", Self::reply)
    }
}

async fn started(
    traceparent: &str,
) -> (
    TestNode,
    Client,
    mpsc::UnboundedReceiver<(&'static str, Option<String>)>,
) {
    let (sender, reports) = mpsc::unbounded_channel();
    // On one runtime, where a handler can spawn.
    let app = App::new().component(Starter(sender)).traces(all());
    let app = app
        .scheduler_threads(None)
        .websocket("127.0.0.1:0", "/nano");
    let node = TestNode::start(app).await;
    let url = format!("ws://{}/nano", node.client_address());
    let builder = Client::builder().header("traceparent", traceparent);
    (node, builder.connect(&url).await.unwrap(), reports)
}

#[tokio::test]
async fn what_a_handler_starts_belongs_to_its_trace() {
    let recorded = Spans::recorded();
    let (parent, trace_id) = client_span(0x51, true);
    let (_node, client, mut reports) = started(&parent).await;
    client.notify("Starter.Start", &1).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..9 {
        seen.push(within("a report", reports.recv()).await.unwrap());
    }
    // The gate, the handler, the task, the timer, and the async task.
    let spans = recorded.wait(&trace_id, 5).await;
    let handler = span(&spans, "handler");
    for name in ["task", "timer"] {
        let span = span(&spans, name);
        assert_eq!(span.field("parent_id"), handler.field("span_id"));
        assert_eq!(span.field("session"), handler.field("session"));
        assert_ne!(span.field("scheduler"), "");
    }
    for (from, current) in seen {
        match from {
            "spawned elsewhere" | "interval" => assert_eq!(current, None, "{from}"),
            _ => assert!(current.unwrap().contains(&trace_id), "{from}"),
        }
    }
}

#[tokio::test]
async fn an_async_handler_keeps_its_trace_over_waits_and_calls_of_its_own_node() {
    let recorded = Spans::recorded();
    let (parent, trace_id) = client_span(0x52, true);
    let (_node, client, mut reports) = started(&parent).await;
    let _: u32 = client.request("Starter.Later", &1).await.unwrap();
    let spans = recorded.wait(&trace_id, 4).await;
    let handlers: Vec<_> = spans.iter().filter(|it| it.name == "handler").collect();
    let call = span(&spans, "call");
    assert_eq!(call.field("parent_id"), handlers[0].field("span_id"));
    assert_eq!(handlers[1].field("parent_id"), call.field("span_id"));
    for (from, of) in [("before", 0), ("after", 0), ("called", 1)] {
        let (found, current) = within("a report", reports.recv()).await.unwrap();
        let own = format!("00-{trace_id}-{}-01", handlers[of].field("span_id"));
        assert_eq!((found, current), (from, Some(own)));
    }
}

fn span<'a>(spans: &'a [Recorded], name: &str) -> &'a Recorded {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no span {name}: {spans:#?}"))
}
