//! A pond with tadpoles: positions are rebroadcast as raw bytes, which the server never reads.
//!
//! ```text
//! cargo run --example tadpole                   # then open http://127.0.0.1:3251/web/
//! cargo run --example tadpole -- 0.0.0.0:8080   # somewhere else
//! ```
//!
//! The messages stand on top of `web/tadpole/tadpole.js`.

use std::{collections::BTreeMap, env, sync::Arc};

use axum::{Router, response::Redirect, routing::get};
use bytes::Bytes;
use nano::{
    App, Component, Error, Group, Handle, Handlers, Listener, LogFormat, Logs, Result, Session,
    code,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tower_http::services::ServeFile;

const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
/// Where [`Manager`] leaves a name in the session for [`World`].
const NAME: &str = "name";

#[tokio::main]
async fn main() -> Result {
    Logs::start("info", LogFormat::Text)?;
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3251".to_owned());
    let node = app(&address).start().await?;
    println!("open http://{}/web/", node.addresses()[0]);
    node.run().await
}

/// The whole server. WebSockets and pages share a port: at `/`, a browser that asks for no
/// WebSocket is sent to the page.
pub(crate) fn app(address: &str) -> App {
    let pages = Router::new()
        .route("/", get(|| async { Redirect::to("/web/") }))
        .route_service("/web/nano.js", ServeFile::new(format!("{WEB}/nano.js")));
    App::new()
        .component(Manager)
        .component(World::default())
        .listen(
            Listener::websocket(address, "/")
                .http(pages)
                .files("/web", format!("{WEB}/tadpole")),
        )
}

/// Knows who may enter the pond.
struct Manager;

#[derive(Deserialize)]
struct Login {
    name: String,
}

#[derive(Serialize)]
struct LoggedIn {
    code: i32,
    id: i64,
}

impl Component for Manager {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Login", Self::login)
    }
}

impl Manager {
    fn login(&self, session: &Session, Login { name }: Login) -> Result<LoggedIn> {
        let id = session.id();
        session.bind(id)?;
        session.set(NAME, name);
        Ok(LoggedIn { code: 0, id })
    }
}

/// The pond.
#[derive(Default)]
struct World {
    group: Group,
    swimmers: Mutex<BTreeMap<i64, String>>,
}

#[derive(Serialize)]
struct Swimmer {
    id: i64,
    name: String,
}

#[derive(Serialize)]
struct Entered {
    code: i32,
    swimmers: Vec<Swimmer>,
}

#[derive(Deserialize)]
struct Say {
    message: String,
}

#[derive(Serialize)]
struct Said {
    id: i64,
    message: String,
}

#[derive(Serialize)]
struct Left {
    id: i64,
}

impl Component for World {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Enter", Self::enter)
            .raw("Update", Self::update)
            .on("Message", Self::message)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let world = self.clone();
        node.on_session_closed(move |session, _| world.left(session));
        Ok(())
    }
}

impl World {
    fn enter(&self, session: &Session, _: ()) -> Result<Entered> {
        let name: String = session
            .value(NAME)
            .ok_or_else(|| Error::new(code::FORBIDDEN, "log in first"))?;
        let id = session.id();
        if !self.group.add(session)? {
            return Err(Error::new(code::CONFLICT, "in the pond already"));
        }
        let others = self
            .swimmers
            .lock()
            .iter()
            .map(|(&id, name)| Swimmer {
                id,
                name: name.clone(),
            })
            .collect();
        self.swimmers.lock().insert(id, name.clone());
        self.group
            .multicast("enter", &Swimmer { id, name }, |member| member != session)?;
        Ok(Entered {
            code: 0,
            swimmers: others,
        })
    }

    fn update(&self, _: &Session, place: Bytes) -> Result {
        self.group.broadcast_raw("update", place)
    }

    fn message(&self, session: &Session, Say { message }: Say) -> Result {
        self.group.broadcast(
            "message",
            &Said {
                id: session.id(),
                message,
            },
        )
    }

    /// Runs when a session has closed, which took it out of the group.
    fn left(&self, session: &Session) {
        let id = session.id();
        if self.swimmers.lock().remove(&id).is_none() {
            return;
        }
        if let Err(error) = self.group.broadcast("leave", &Left { id }) {
            tracing::warn!(id, %error, "departure not announced");
        }
    }
}
