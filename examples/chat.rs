//! A chat room, and a page to join it from.
//!
//! ```text
//! cargo run --example chat                      # then open http://127.0.0.1:3250/web/
//! cargo run --example chat -- 0.0.0.0:8080      # somewhere else
//! ```
//!
//! Routes and messages are those of nano's chat demo, so that its pages work here too. What ours
//! has beyond them stands on top of `web/chat/chat.js`.

use std::{collections::BTreeMap, env, sync::Arc};

use axum::{Router, response::Redirect, routing::get};
use bytes::Bytes;
use nano::{
    App, Component, Error, Group, Handle, Handlers, Listener, LogFormat, Logs, Options, Result,
    Session, Unique, code,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tower_http::services::ServeFile;

/// The files of the pages.
const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/web");

#[tokio::main]
async fn main() -> Result {
    Logs::start("info", LogFormat::Text)?;
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3250".to_owned());
    let node = app(&address, WEB).start().await?;
    println!("open http://{}/web/", node.addresses()[0]);
    node.run().await
}

/// The whole server: a component, and where clients connect. A browser that asks for a page instead
/// of a WebSocket gets a page, of the directory `web`.
pub(crate) fn app(address: &str, web: &str) -> App {
    let pages = Router::new()
        .route("/", get(|| async { Redirect::to("/web/") }))
        .route_service("/web/nano.js", ServeFile::new(format!("{web}/nano.js")));
    App::new()
        .component_with(
            Room::default(),
            Options::new().name("room").name_func(str::to_lowercase),
        )
        .unique_users(Unique::Replace)
        .listen(
            Listener::websocket(address, "/nano")
                .http(pages)
                .files("/web", format!("{web}/chat")),
        )
}

/// The room. `group` has the sessions in it, `names` their names.
#[derive(Default)]
struct Room {
    group: Group,
    names: Mutex<BTreeMap<i64, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Join {
    name: String,
}

#[derive(Serialize)]
struct JoinResponse {
    code: i32,
    result: &'static str,
}

#[derive(Serialize)]
struct Member {
    id: i64,
    name: String,
}

/// An empty list goes out as nano's demo sends it: `{"members":null}`.
#[derive(Serialize)]
struct AllMembers {
    members: Option<Vec<i64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<Member>,
}

#[derive(Serialize)]
struct Notice {
    content: String,
    #[serde(flatten)]
    member: Member,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct UserMessage {
    name: String,
    content: String,
}

impl Component for Room {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        // A message behind a join waits for it.
        h.raw("Join", Self::join)
            .sequential()
            .on("Message", Self::message)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let room = self.clone();
        node.on_session_closed(move |session, _| room.left(session));
        Ok(())
    }
}

impl Room {
    /// Takes bytes because pages may join without a body, which is no JSON. They have no name.
    ///
    /// Of two sessions with the same name the newer stays: the older has left the room when its
    /// `login` returns.
    async fn join(self: Arc<Self>, session: Session, body: Bytes) -> Result {
        let Join { name } = serde_json::from_slice(&body).unwrap_or_default();
        let id = session.id();
        if self.names.lock().contains_key(&id) {
            return Err(Error::new(code::CONFLICT, "joined already"));
        }
        match &*name {
            "" => session.bind(id)?,
            name => drop(session.login(name).await?),
        }
        self.group.add(&session)?;
        session.push("onMembers", &self.members())?;
        self.names.lock().insert(id, name.clone());
        let notice = Notice {
            content: format!("New user: {id}"),
            member: Member { id, name },
        };
        self.group
            .multicast("onNewUser", &notice, |member| *member != session)?;
        session.respond(&JoinResponse {
            code: 0,
            result: "success",
        })
    }

    fn message(&self, _: &Session, message: UserMessage) -> Result {
        self.group.broadcast("onMessage", &message)
    }

    /// Runs when a session has closed, which took it out of the group.
    fn left(&self, session: &Session) {
        let id = session.id();
        let Some(name) = self.names.lock().remove(&id) else {
            return;
        };
        let notice = Notice {
            content: format!("User left: {id}"),
            member: Member { id, name },
        };
        if let Err(error) = self.group.broadcast("onLeave", &notice) {
            tracing::warn!(id, %error, "departure not announced");
        }
    }

    fn members(&self) -> AllMembers {
        let names: Vec<_> = self
            .names
            .lock()
            .iter()
            .map(|(&id, name)| Member {
                id,
                name: name.clone(),
            })
            .collect();
        AllMembers {
            members: (!names.is_empty()).then(|| names.iter().map(|member| member.id).collect()),
            names,
        }
    }
}
