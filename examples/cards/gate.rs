//! The gate: clients connect here. It is the master, too, and serves the page.

use axum::{Router, response::Redirect, routing::get};
use nano::{App, Cluster, Listener, Unique};
use tower_http::services::ServeFile;

const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/web");

pub(crate) fn app(listen: &str) -> App {
    let file = |name: &str| ServeFile::new(format!("{WEB}/{name}"));
    let pages = Router::new()
        .route("/", get(|| async { Redirect::to("/web/") }))
        .route_service("/web/nano.js", file("nano.js"))
        .route_service("/web/style.css", file("chat/style.css"));
    App::new()
        .cluster(Cluster::master().listen("127.0.0.1:0").label("gate"))
        .unique_users(Unique::Replace)
        .listen(
            Listener::websocket(listen, "/nano")
                .http(pages)
                .files("/web", format!("{WEB}/cards")),
        )
}
