//! Whose messages are sampled, and of which trace they are.

use nano::{
    App, Component, Handlers, Result, Session, Traces,
    client::Client,
    code,
    testing::{RawClient, TestNode},
    trace,
};
use serde_json::json;

use crate::{
    all, client_span,
    spans::{Recorded, Spans},
};

/// Returns the current trace.
struct Probe;

impl Probe {
    fn current(&self, _: &Session, _: u32) -> Result<Option<String>> {
        Ok(trace::current().map(|context| context.to_string()))
    }

    /// Never answers.
    fn forget(&self, session: &Session, _: u32) {
        std::mem::forget(session.responder());
    }
}

impl Component for Probe {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Current", Self::current)
            .on("Forget", |probe: &Self, session: &Session, number| {
                probe.forget(session, number);
                Ok::<_, nano::Error>(())
            })
    }
}

async fn node(traces: Traces) -> TestNode {
    let app = App::new().component(Probe).traces(traces);
    TestNode::start(app.tcp("127.0.0.1:0").websocket("127.0.0.1:0", "/nano")).await
}

async fn with_header(node: &TestNode, traceparent: &str) -> Client {
    let url = format!("ws://{}/nano", node.node().addresses()[1]);
    let builder = Client::builder().header("traceparent", traceparent);
    builder.connect(&url).await.unwrap()
}

async fn current(client: &Client) -> Option<String> {
    client.request("Probe.Current", &1).await.unwrap()
}

/// The trace of a `traceparent`.
fn trace_of(current: Option<String>) -> Option<String> {
    Some(current?.split('-').nth(1)?.to_owned())
}

#[tokio::test]
async fn nothing_is_traced_unless_it_is_asked_for() {
    let node = node(Traces::new()).await;
    let (parent, trace_id) = client_span(0x41, true);
    let client = with_header(&node, &parent).await;
    assert_eq!(current(&client).await, None);
    assert!(Spans::recorded().of(&trace_id).is_empty());
}

#[tokio::test]
async fn each_message_of_a_client_without_a_trace_begins_one() {
    let recorded = Spans::recorded();
    let node = node(all()).await;
    let client = node.client().await;
    let traces = [current(&client).await, current(&client).await].map(trace_of);
    assert_ne!(traces[0], traces[1]);
    for trace in traces {
        let spans = recorded.wait(&trace.unwrap(), 2).await;
        assert_eq!(spans[0].name, "gate");
        assert_eq!(spans[0].field("parent_id"), "");
        assert_eq!(spans[1].field("parent_id"), spans[0].field("span_id"));
    }
}

#[tokio::test]
async fn a_handshake_names_the_trace_of_a_client_without_headers() {
    let recorded = Spans::recorded();
    let node = node(all()).await;
    let (parent, trace_id) = client_span(0x42, false);
    let mut client = RawClient::tcp(node.client_address()).await;
    let handshake = json!({ "sys": { "traceparent": parent, "tracestate": 7 }, "user": 1 });
    client
        .handshake_with(handshake.to_string().as_bytes())
        .await;
    client.call(1, "Probe.Current", "1").await;
    let spans = recorded.wait(&trace_id, 2).await;
    assert_eq!(spans[0].field("parent_id"), "00f067aa0ba902b7");
}

#[tokio::test]
async fn the_clients_of_this_project_name_their_trace_over_any_transport() {
    let recorded = Spans::recorded();
    let node = node(all()).await;
    let (parent, trace_id) = client_span(0x44, true);
    let builder = Client::builder().traceparent(parent).tracestate("vendor=1");
    let url = format!("tcp://{}", node.client_address());
    let client = builder.connect(&url).await.unwrap();
    assert_eq!(trace_of(current(&client).await), Some(trace_id.clone()));
    let spans = recorded.wait(&trace_id, 2).await;
    assert_eq!(spans[0].field("parent_id"), "00f067aa0ba902b7");
}

#[tokio::test]
async fn an_invalid_trace_of_a_client_is_ignored() {
    let node = node(all()).await;
    let (valid, trace_id) = client_span(0x43, true);
    for invalid in [
        valid.replacen("00", "ff", 1),
        valid.to_uppercase().replace("43", "AB"),
        format!("{valid}-more"),
        valid.replace(&trace_id, &"0".repeat(32)),
        valid[..54].to_owned(),
        String::new(),
    ] {
        let client = with_header(&node, &invalid).await;
        let trace = trace_of(current(&client).await).unwrap();
        assert!(!invalid.to_lowercase().contains(&trace), "{invalid}");
        client.close();
        // In a handshake too, where any JSON may be.
        for sys in [
            json!({ "traceparent": invalid }),
            json!({ "traceparent": [1] }),
        ] {
            let mut client = RawClient::tcp(node.client_address()).await;
            client
                .handshake_with(json!({ "sys": sys }).to_string().as_bytes())
                .await;
            let answer = client.call(1, "Probe.Current", "1").await;
            let answer: Option<String> = serde_json::from_slice(&answer).unwrap();
            assert_ne!(trace_of(answer), Some(trace_id.clone()));
        }
    }
    // A later version with more fields is read as this one.
    let later = format!("{}-more", valid.replacen("00", "01", 1));
    let client = with_header(&node, &later).await;
    assert_eq!(trace_of(current(&client).await), Some(trace_id));
}

#[tokio::test]
async fn the_flag_of_a_client_decides_only_if_it_is_asked_for() {
    let follows = node(Traces::new().follow_parent(true)).await;
    let ratio = node(all()).await;
    for (number, sampled) in [(0x48, true), (0x45, false)] {
        let (parent, trace_id) = client_span(number, sampled);
        let client = with_header(&follows, &parent).await;
        let expected = sampled.then(|| trace_id.clone());
        assert_eq!(trace_of(current(&client).await), expected);
        let client = with_header(&ratio, &parent).await;
        assert_eq!(trace_of(current(&client).await), Some(trace_id));
    }
    // Without one, the ratio decides.
    assert_eq!(current(&follows.client().await).await, None);
}

#[tokio::test]
async fn a_part_of_the_messages_is_sampled() {
    let node = node(Traces::new().ratio(0.5)).await;
    let client = node.client().await;
    let mut sampled = 0;
    for _ in 0..200 {
        sampled += usize::from(current(&client).await.is_some());
    }
    // All outside of this range: once in 10^9 runs.
    assert!((55..=145).contains(&sampled), "{sampled}");
}

#[tokio::test]
async fn a_request_without_an_answer_ends_with_its_client() {
    let recorded = Spans::recorded();
    let node = node(all()).await;
    let (parent, trace_id) = client_span(0x46, true);
    let client = with_header(&node, &parent).await;
    let request = tokio::spawn({
        let client = client.clone();
        async move { client.request::<(), _>("Probe.Forget", &1).await }
    });
    recorded.wait(&trace_id, 1).await;
    client.close();
    assert_eq!(request.await.unwrap().unwrap_err().code(), code::CLOSED);
    let spans = recorded.wait(&trace_id, 2).await;
    let outcome = |name| {
        let span = spans.iter().find(|span: &&Recorded| span.name == name);
        span.unwrap().field("outcome").to_owned()
    };
    assert_eq!(
        (outcome("handler"), outcome("gate")),
        ("ok".into(), "dropped".into())
    );
}

#[tokio::test]
async fn a_notify_has_its_spans() {
    let recorded = Spans::recorded();
    let node = node(all()).await;
    let (parent, trace_id) = client_span(0x47, true);
    let client = with_header(&node, &parent).await;
    client.notify("Probe.Current", &1).await.unwrap();
    let spans = recorded.wait(&trace_id, 2).await;
    for span in spans {
        assert_eq!(span.field("outcome"), "ok", "{span:?}");
        assert_eq!(span.field("request"), "0");
    }
}

#[tokio::test]
async fn the_ratio_is_taken_by_a_reload() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "").unwrap();
    let config = nano::Config::load(file.path()).unwrap();
    let app = App::new().component(Probe).config(&config);
    let node = TestNode::start(app.tcp("127.0.0.1:0")).await;
    let client = node.client().await;
    assert_eq!(current(&client).await, None);
    std::fs::write(file.path(), "[traces]\nratio = 1").unwrap();
    node.handle().reload().await.unwrap();
    assert!(current(&client).await.is_some());
    std::fs::write(file.path(), "[traces]\nratio = 0.0").unwrap();
    node.handle().reload().await.unwrap();
    assert_eq!(current(&client).await, None);
}
