//! The gate: clients connect here, and log in.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::Args;
use nano::{App, Cluster, Component, Handle, Handlers, Member, Result, Session, Unique};
use serde::{Deserialize, Serialize};

use super::protocol::NewUser;

/// The key of a session that has logged in.
const NICKNAME: &str = "nickname";

/// After this long a message to several nodes has arrived everywhere, or never will.
const SETTLED: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Flags {
    /// Where other nodes reach this one.
    #[arg(short, long, default_value = "127.0.0.1:34570")]
    pub(crate) listen: String,
    /// Where the master is.
    #[arg(long, default_value = "127.0.0.1:34567")]
    pub(crate) master: String,
    /// Where clients connect, by WebSocket at /nano.
    #[arg(long, default_value = "127.0.0.1:34590")]
    pub(crate) gate_address: String,
}

pub(crate) fn app(flags: &Flags) -> App {
    let service = BindService::default();
    let introducing = service.clone();
    App::new()
        .cluster(
            Cluster::join([&flags.master])
                .listen(&flags.listen)
                .label("gate")
                .on_member_joined(move |member| introducing.introduce_to(member)),
        )
        .component(service)
        .unique_users(Unique::Replace)
        .websocket(&flags.gate_address, "/nano")
}

#[derive(Clone, Default)]
struct BindService {
    node: Arc<OnceLock<Handle>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    nickname: String,
}

#[derive(Serialize)]
struct LoginResponse {
    code: i32,
}

impl Component for BindService {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        // A message behind a login waits for it.
        h.on("Login", Self::login).sequential()
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        self.node.get_or_init(|| node.clone());
        Ok(())
    }
}

impl BindService {
    /// Of two sessions with the same name the newer stays: the older has left the room when its
    /// `login` returns.
    async fn login(
        self: Arc<Self>,
        session: Session,
        Login { nickname }: Login,
    ) -> Result<LoginResponse> {
        match &*nickname {
            "" => session.bind(session.id())?,
            name => drop(session.login(name).await?),
        }
        session.rpc(
            "TopicService.NewUser",
            &NewUser {
                nickname: nickname.clone(),
                gate_uid: session.id(),
                again: false,
            },
        )?;
        session.set(NICKNAME, nickname);
        Ok(LoginResponse { code: 0 })
    }

    /// Sends all users of this gate to a node that was restarted and has lost them. They are sent
    /// twice: once the node has all of them, the master can push each the list of the others.
    fn introduce_to(&self, member: &Member) {
        if !member
            .services()
            .iter()
            .any(|service| service == "TopicService" || service == "RoomService")
        {
            return;
        }
        self.introduce();
        let service = self.clone();
        let second = self
            .node
            .get()
            .map(|node| node.scheduler().delay(SETTLED, move || service.introduce()));
        if let Some(Err(error)) = second {
            tracing::warn!(%error, "introduced only once");
        }
    }

    fn introduce(&self) {
        for session in self
            .node
            .get()
            .into_iter()
            .flat_map(|node| node.sessions().list())
        {
            let Some(nickname) = session.value(NICKNAME) else {
                continue;
            };
            let again = NewUser {
                nickname,
                gate_uid: session.id(),
                again: true,
            };
            if let Err(error) = session.rpc("TopicService.NewUser", &again) {
                tracing::warn!(session = session.id(), %error, "not introduced; the next node that joins is another chance");
            }
        }
    }
}
