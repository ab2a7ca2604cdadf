//! What the log lines of handlers carry.

use std::sync::Arc;

use nano::{App, Component, Handlers, Result, Session};

use crate::{
    harness::{Client, start},
    log::Log,
    support::eventually,
};

/// Writes a line of its own to the log.
struct Diary;

impl Component for Diary {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Note", Self::note).on("NoteLater", Self::note_later)
    }
}

impl Diary {
    fn note(&self, _: &Session, text: String) -> Result<bool> {
        tracing::warn!(text, "noted");
        Ok(true)
    }

    async fn note_later(self: Arc<Self>, _: Session, text: String) -> Result<bool> {
        tokio::task::yield_now().await;
        tracing::warn!(text, "noted");
        Ok(true)
    }
}

#[tokio::test]
async fn log_lines_of_handlers_carry_session_user_route_and_request_at_the_level_info() {
    let log = Log::captured();
    let node = start(App::new().component(Diary)).await;
    let mut client = Client::connect(&node).await;
    let session = node.handle().sessions().list()[0].clone();
    session.bind(770_078).unwrap();
    let id = format!("session={}", session.id());

    for (request, route) in [(1, "Diary.Note"), (2, "Diary.NoteLater")] {
        client.ask(route, format!("{route:?}")).await.unwrap();
        let (route, request) = (format!("route={route:?}"), format!("request={request}"));
        let context = [&*id, "uid=770078", &*route, &*request, "noted"];
        eventually("the line is logged", || log.count(&context) == 1).await;
    }
}
