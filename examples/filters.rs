//! Filters around handlers: an access log, a ban list that is looked up, a login check, validation,
//! and limits of time and load.
//!
//! ```text
//! cargo run --example filters                      # shows it, and then waits for more clients
//! cargo run --example filters -- 127.0.0.1:8080    # somewhere else
//! ```

use std::{env, sync::Arc, time::Duration};

use nano::{
    App, Component, Error, Handlers, LogFormat, Logs, Node, Options, Result, Session,
    client::Client,
    code,
    filter::{self, AsyncFilter, Context, Flow, LoadShed, RouteTiming, TimeLimit},
};
use serde::Deserialize;
use serde_json::json;

#[tokio::main]
async fn main() -> Result {
    Logs::start("info", LogFormat::Text)?;
    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3253".to_owned());
    let node = start(&address).await?;
    let url = format!("tcp://{}", node.addresses()[0]);
    let client = Client::connect(&url).await?;
    for (route, message) in [
        ("Shop.Buy", json!({ "item": 1, "count": 1 })),
        ("Account.Login", json!({ "player": 5 })),
        ("Shop.Buy", json!({ "item": 1, "count": 0 })),
        ("Shop.Buy", json!({ "item": 1, "count": 2 })),
        ("Shop.Report", json!({ "item": 1 })),
    ] {
        let reply: Result<String> = client.request(route, &message).await;
        match reply {
            Ok(reply) => println!("{route}: {reply}"),
            Err(error) => println!("{route}: {}: {}", error.code(), error.message()),
        }
    }
    println!("clients connect at {url}; Ctrl-C stops the server");
    node.run().await
}

/// A node with filters in all three places.
pub(crate) async fn start(address: &str) -> Result<Node> {
    let limits = TimeLimit::new(Duration::from_secs(2))
        .route("Shop.Report", Duration::from_millis(50))
        .unlimited("Account.Login");
    let for_players = Options::new()
        .filter(filter::before(logged_in))
        .filter(NotBanned);
    App::new()
        // The node's filters see every message, the first of them also what the others refuse.
        .filter(filter::after(|call, outcome| {
            let (route, uid) = (call.route(), call.session().uid());
            match outcome.error() {
                Some(error) => tracing::warn!(route, uid, %error, "failed"),
                None => tracing::info!(route, uid, took = ?outcome.took(), "handled"),
            }
        }))
        .filter(RouteTiming)
        .filter(LoadShed::new(Duration::from_millis(500)))
        .filter(limits)
        .component(Account)
        .component_with(Shop, for_players)
        .tcp(address)
        .start()
        .await
}

/// Refuses players who have not logged in.
fn logged_in(call: &mut Context<'_>) -> Result<Flow> {
    match call.session().uid() {
        0 => Err(Error::new(code::FORBIDDEN, "log in first")),
        _ => Ok(Flow::Continue),
    }
}

/// Looks the player up. The session's next message waits for it, so the order stays.
struct NotBanned;

impl AsyncFilter for NotBanned {
    async fn before(&self, call: &mut Context<'_>) -> Result<Flow> {
        if is_banned(call.session().uid()).await {
            return Err(Error::new(code::FORBIDDEN, "banned"));
        }
        Ok(Flow::Continue)
    }
}

/// Stands for a question to a database.
async fn is_banned(uid: i64) -> bool {
    tokio::time::sleep(Duration::from_millis(1)).await;
    uid == 666
}

struct Account;

impl Component for Account {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Login", Self::login)
    }
}

impl Account {
    fn login(&self, session: &Session, login: Login) -> Result<String> {
        session.bind(login.player)?;
        Ok(format!("player {}", login.player))
    }
}

struct Shop;

impl Component for Shop {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Buy", Self::buy)
            .validate(|buy: &Buy| match buy.count {
                1..=99 => Ok(()),
                _ => Err(Error::bad_request("from 1 to 99 at a time")),
            })
            .on("Report", Self::report)
    }
}

impl Shop {
    fn buy(&self, _: &Session, buy: Buy) -> Result<String> {
        Ok(format!("{} of item {}", buy.count, buy.item))
    }

    /// Takes longer than it may.
    async fn report(self: Arc<Self>, _: Session, _: ()) -> Result<String> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok("all sales".to_owned())
    }
}

#[derive(Deserialize)]
struct Login {
    player: i64,
}

#[derive(Deserialize)]
struct Buy {
    item: i64,
    count: u32,
}
