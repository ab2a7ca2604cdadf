//! The master: it knows the nodes and the users that are logged in. It serves the page, too.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, response::Redirect, routing::get};
use clap::Args;
use nano::{
    App, Cluster, Component, Error, Handle, Handlers, Listener, Result, Session, Unique, code,
};
use parking_lot::Mutex;
use serde::Serialize;
use tower_http::services::ServeFile;

use super::protocol::{JoinRoom, NewUser, Stats};

const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/web");

/// The balance of a new user. A message costs 1.
const BALANCE: i64 = 1000;

#[derive(Args)]
pub(crate) struct Flags {
    /// Where other nodes reach this one.
    #[arg(short, long, default_value = "127.0.0.1:34567")]
    pub(crate) listen: String,
    /// Where the page is served.
    #[arg(long, default_value = "127.0.0.1:12345")]
    pub(crate) web: String,
    /// The directory with the files of the page.
    #[arg(long, default_value = WEB)]
    pub(crate) files: String,
}

pub(crate) fn app(flags: &Flags) -> App {
    // Clients of the game go to a gate, so no WebSocket may be opened here.
    let pages = Listener::websocket(&flags.web, "/nano").check_origin(|_| false);
    App::new()
        .cluster(
            Cluster::master()
                .listen(&flags.listen)
                .label("master")
                .on_unregister(|member| {
                    let (member, label) = (member.address(), member.label());
                    tracing::info!(member, label, "member leaves");
                }),
        )
        .component(TopicService::default())
        .unique_users(Unique::Replace)
        .listen(
            pages
                .http(shared_with_the_chat(&flags.files))
                .files("/web", format!("{}/cluster", flags.files)),
        )
}

fn shared_with_the_chat(files: &str) -> Router {
    let file = |name: &str| ServeFile::new(format!("{files}/{name}"));
    Router::new()
        .route("/", get(|| async { Redirect::to("/web/") }))
        .route_service("/web/nano.js", file("nano.js"))
        .route_service("/web/view.js", file("chat/view.js"))
        .route_service("/web/style.css", file("chat/style.css"))
}

#[derive(Default)]
struct TopicService {
    users: Mutex<BTreeMap<i64, User>>,
}

struct User {
    nickname: String,
    balance: i64,
}

/// Nicknames with commas between them.
#[derive(Serialize)]
struct Members {
    members: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Balance {
    current_balance: i64,
}

impl Component for TopicService {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("NewUser", Self::new_user).on("Stats", Self::stats)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let topic = self.clone();
        node.on_session_closed(move |session, _| drop(topic.users.lock().remove(&session.id())));
        Ok(())
    }
}

impl TopicService {
    fn new_user(
        &self,
        session: &Session,
        NewUser {
            nickname,
            gate_uid,
            again,
        }: NewUser,
    ) -> Result {
        // Session ids are unique in the cluster, across restarts too.
        let uid = session.id();
        let (others, known) = {
            let mut users = self.users.lock();
            let others = users
                .iter()
                .filter(|(other, _)| **other != uid)
                .map(|(_, user)| user.nickname.clone())
                .collect::<Vec<_>>();
            let known = users.contains_key(&uid);
            users.entry(uid).or_insert_with(|| User {
                nickname: nickname.clone(),
                balance: BALANCE,
            });
            (others, known)
        };
        // Before the push, so that a client that answers it is in the room already.
        let joined = session.rpc(
            "RoomService.JoinRoom",
            &JoinRoom {
                nickname,
                gate_uid,
                master_uid: uid,
                again,
            },
        );
        // After a restart this node does not have all users yet; the clients have.
        if known || !again {
            session.push(
                "onMembers",
                &Members {
                    members: others.join(","),
                },
            )?;
        }
        joined
    }

    fn stats(&self, session: &Session, Stats { uid }: Stats) -> Result {
        let current_balance = {
            let mut users = self.users.lock();
            let user = users.get_mut(&uid).ok_or_else(|| {
                Error::new(code::NOT_FOUND, format!("no user is logged in as {uid}"))
            })?;
            user.balance -= 1;
            user.balance
        };
        session.push("onBalance", &Balance { current_balance })
    }
}
