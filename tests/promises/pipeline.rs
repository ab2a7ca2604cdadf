//! What passes through a pipeline, in which order, and what becomes of messages it refuses.

use std::sync::Arc;

use bytes::Bytes;
use nano::{
    App, Component, Error, Handlers, Pipeline, Raw, Result, Session, code,
    message::{Kind, Message},
};
use parking_lot::Mutex;

use crate::harness::{Client, start};

struct Post;

impl Component<Raw> for Post {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Echo", Self::echo)
            .on("Push", Self::push)
            .on("Fail", Self::fail)
    }
}

impl Post {
    fn echo(&self, _: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn push(&self, session: &Session<Raw>, body: Bytes) -> Result<&'static str> {
        session.push("onPost", &body)?;
        Ok("pushed")
    }

    fn fail(&self, _: &Session<Raw>, _: Bytes) -> Result {
        Err(Error::new("POST-FAIL", "no"))
    }
}

async fn post(pipeline: impl Into<Arc<Pipeline>>) -> (nano::Node, Client) {
    let node = start(App::new().component(Post).pipeline(pipeline)).await;
    let client = Client::connect(&node).await;
    (node, client)
}

/// Refuses or panics by the body of a message.
fn censor(_: &Session, message: &mut Message) -> Result {
    match &*message.body {
        b"refuse" => Err(Error::new("CENSORED", "not this")),
        b"panic" => panic!("a test's panic"),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn a_request_the_inbound_pipeline_refuses_is_answered() {
    let pipeline = Pipeline::new();
    pipeline.inbound().push_back(censor);
    let (_node, mut client) = post(pipeline).await;
    for body in ["refuse", "panic"] {
        client.notify("Post.Push", body).await;
    }
    assert_eq!(client.ask_in_vain("Post.Echo", "refuse").await, "CENSORED");
    assert_eq!(
        client.ask_in_vain("Post.Echo", "panic").await,
        code::INTERNAL
    );
    client.request("Post.Echo", "fine").await;
    assert_eq!(
        client.message().await.body,
        "fine",
        "the notifies pushed nothing"
    );
}

#[tokio::test]
async fn a_request_whose_response_the_outbound_pipeline_refuses_is_answered() {
    let pipeline = Pipeline::new();
    pipeline.outbound().push_back(censor);
    let (_node, mut client) = post(pipeline).await;
    assert_eq!(client.ask_in_vain("Post.Echo", "refuse").await, "CENSORED");
    assert_eq!(
        client.ask_in_vain("Post.Echo", "panic").await,
        code::INTERNAL
    );
    for body in ["refuse", "panic"] {
        client.request("Post.Push", body).await;
        assert_eq!(
            client.message().await.body,
            "pushed",
            "the push itself was dropped"
        );
    }
    assert_eq!(client.ask("Post.Echo", "fine").await.unwrap(), "fine");
}

#[tokio::test]
async fn a_request_is_answered_even_if_the_pipeline_refuses_everything() {
    let pipeline = Pipeline::new();
    pipeline
        .outbound()
        .push_back(|_, _| Err(Error::new("NEVER", "nothing passes")));
    let (_node, mut client) = post(pipeline).await;
    assert_eq!(client.ask_in_vain("Post.Echo", "x").await, "NEVER");
    assert_eq!(client.ask_in_vain("Post.Fail", "x").await, "NEVER");
}

#[tokio::test]
async fn every_message_passes_every_step_once_and_in_order() {
    let (pipeline, log) = (Arc::new(Pipeline::new()), Arc::new(Mutex::new(Vec::new())));
    let note = |name: &'static str| {
        let log = log.clone();
        move |_: &Session, message: &mut Message| {
            log.lock().push((
                name,
                message.kind,
                String::from_utf8_lossy(&message.body).into_owned(),
            ));
            Ok(())
        }
    };
    pipeline.inbound().push_back(note("in 2"));
    pipeline.inbound().push_front(note("in 1"));
    pipeline.outbound().push_back(note("out 2"));
    pipeline.outbound().push_front(note("out 1"));
    let (_node, mut client) = post(pipeline).await;
    client.ask("Post.Push", "x").await.unwrap();
    let expected = [
        ("in 1", Kind::Request, "x"),
        ("in 2", Kind::Request, "x"),
        ("out 1", Kind::Push, "x"),
        ("out 2", Kind::Push, "x"),
        ("out 1", Kind::Response, "pushed"),
        ("out 2", Kind::Response, "pushed"),
    ];
    assert_eq!(
        *log.lock(),
        expected.map(|(step, kind, body)| (step, kind, body.to_owned()))
    );
}

/// A stream cipher of sorts: what it does to a byte depends on all that came before.
fn cipher() -> impl Fn(&Session, &mut Message) -> Result + Send + Sync {
    let position = Mutex::new(0_u8);
    move |_, message| {
        let mut position = position.lock();
        let coded = message.body.iter().map(|byte| {
            *position = position.wrapping_add(31);
            byte ^ *position
        });
        message.body = coded.collect();
        Ok(())
    }
}

#[tokio::test]
async fn the_outbound_pipeline_sees_messages_in_the_order_of_the_wire_error_replies_included() {
    let pipeline = Pipeline::new();
    pipeline.outbound().push_back(cipher());
    let (node, mut client) = post(pipeline).await;
    let session = client.session(&node).await;
    let decode = cipher();
    for _ in 0..20 {
        for route in ["Post.Push", "Post.Fail", "No.Where", "Post.Echo"] {
            client.request(route, "text").await;
        }
    }
    let mut seen = Vec::new();
    for _ in 0..100 {
        let mut message = client.message().await;
        decode(&session, &mut message).unwrap();
        seen.push(if message.error {
            Error::from_body(&message.body).code().to_string()
        } else {
            String::from_utf8(message.body.to_vec()).unwrap()
        });
    }
    for (text, times) in [
        ("text", 40),
        ("pushed", 20),
        ("POST-FAIL", 20),
        (code::NOT_FOUND.as_str(), 20),
    ] {
        assert_eq!(
            seen.iter().filter(|seen| *seen == text).count(),
            times,
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_pipeline_can_change_messages_and_be_changed_while_the_node_runs() {
    let pipeline = Arc::new(Pipeline::new());
    let (_node, mut client) = post(pipeline.clone()).await;
    assert_eq!(client.ask("Post.Echo", "x").await.unwrap(), "x");
    pipeline.inbound().push_back(|session, message| {
        session.set("sender", "player");
        message.route = "Post.Echo".into();
        Ok(())
    });
    pipeline.outbound().push_back(|session, message| {
        message.body = format!(
            "{} of {}",
            String::from_utf8_lossy(&message.body),
            session.value_or_default::<&str>("sender")
        )
        .into();
        Ok(())
    });
    assert_eq!(client.ask("No.Where", "x").await.unwrap(), "x of player");
}
