//! What the log lines of handlers carry.

use std::sync::Arc;

use nano::{App, Component, Handlers, Result, Session, UserId};

use crate::{
    harness::{Client, start},
    log::Log,
    support::eventually,
};

/// Writes a line of its own to the log.
struct Diary;

impl Component for Diary {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Note", Self::note)
            .on("NoteLater", Self::note_later)
            .on("Fail", Self::fail)
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

    fn fail(&self, _: &Session, _: String) -> Result {
        Err(std::io::Error::other("the ink is dry").into())
    }
}

#[tokio::test]
async fn log_lines_of_handlers_carry_session_user_route_and_request_at_the_level_info() {
    let log = Log::captured();
    let node = start(App::new().component(Diary)).await;
    let mut client = Client::connect(&node).await;
    let session = node.handle().sessions().list()[0].clone();
    let id = format!("session={}", session.id());
    let users: [(Option<UserId>, _); 3] = [
        (None, ""),
        (Some(770_078.into()), " user=770078 "),
        (Some("770078".into()), r#" user="770078" "#),
    ];

    let mut requests = 1..;
    for (user, field) in users {
        if let Some(user) = user {
            session.bind(user).unwrap();
        }
        for (route, event) in [
            ("Diary.Note", "noted"),
            ("Diary.NoteLater", "noted"),
            ("Diary.Fail", "message failed"),
        ] {
            let _ = client.ask(route, format!("{route:?}")).await;
            let request = format!("request={}", requests.next().unwrap());
            let route = format!("route={route:?}");
            let context = [&*id, field, &*route, &*request, event];
            eventually("the line is logged", || log.count(&context) == 1).await;
            if field.is_empty() {
                assert_eq!(log.count(&[&*id, &*request, "user="]), 0, "not bound yet");
            }
        }
    }
}
