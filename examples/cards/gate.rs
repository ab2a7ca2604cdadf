//! The gate: clients connect here. It is the master, too, and serves the page.

use axum::{Router, response::Redirect, routing::get};
use nano::{App, Cluster, Component, Handlers, Listener, Result, Session};
use serde::{Deserialize, Serialize};
use tower_http::services::ServeFile;

const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/web");

pub(crate) fn app(listen: &str) -> App {
    let file = |name: &str| ServeFile::new(format!("{WEB}/{name}"));
    let pages = Router::new()
        .route("/", get(|| async { Redirect::to("/web/") }))
        .route_service("/web/nano.js", file("nano.js"))
        .route_service("/web/style.css", file("chat/style.css"));
    App::new()
        .cluster(Cluster::master().listen("127.0.0.1:0").label("gate"))
        .component(News)
        .listen(
            Listener::websocket(listen, "/nano")
                .http(pages)
                .files("/web", format!("{WEB}/cards")),
        )
}

/// News for all players.
struct News;

#[derive(Deserialize, Serialize)]
pub(crate) struct Announcement {
    pub(crate) text: String,
}

impl Component for News {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Announce", Self::announce).internal()
    }
}

impl News {
    /// Pushes the news to all players of this gate; answers how many there are.
    fn announce(&self, caller: &Session, news: Announcement) -> Result<usize> {
        let players = caller.node()?.sessions().list();
        // One that has just gone misses it.
        let reached = |player: &&Session| player.push("onNews", &news).is_ok();
        Ok(players.iter().filter(reached).count())
    }
}
