//! The room: each message goes to all sessions in it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use clap::Args;
use nano::{App, Cluster, Component, Error, Group, Handle, Handlers, Result, Session, code};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::protocol::{JoinRoom, Notice, Stats};

/// How long after a session came back others may still be on their way.
const OPENING: Duration = Duration::from_millis(300);

#[derive(Args)]
pub(crate) struct Flags {
    /// Where other nodes reach this one.
    #[arg(short, long, default_value = "127.0.0.1:34580")]
    pub(crate) listen: String,
    /// Where the master is.
    #[arg(long, default_value = "127.0.0.1:34567")]
    pub(crate) master: String,
}

pub(crate) fn app(flags: &Flags) -> App {
    App::new()
        .cluster(
            Cluster::join([&flags.master])
                .listen(&flags.listen)
                .label("chat"),
        )
        .component(RoomService::default())
}

/// The room. `group` has the sessions in it, `nicknames` their names.
#[derive(Default)]
struct RoomService {
    group: Group,
    nicknames: Mutex<HashMap<i64, String>>,
    /// When the last session came back after a restart of this node.
    opened: Mutex<Option<Instant>>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Message {
    name: String,
    content: String,
}

/// For clients that send a message as a request; nano's page sends a notify.
#[derive(Serialize)]
struct Said {
    code: i32,
}

impl Component for RoomService {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("JoinRoom", Self::join_room)
            .on("SyncMessage", Self::sync_message)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let room = self.clone();
        node.on_session_closed(move |session, _| room.left(session));
        Ok(())
    }
}

impl RoomService {
    fn join_room(
        &self,
        session: &Session,
        JoinRoom {
            nickname,
            master_uid,
            again,
            ..
        }: JoinRoom,
    ) -> Result {
        session.bind(master_uid)?;
        if !again {
            self.group.broadcast(
                "onNewUser",
                &Notice {
                    content: format!("User user join: {nickname}"),
                },
            )?;
        }
        self.nicknames.lock().insert(session.id(), nickname);
        if self.group.add(session)? && again {
            *self.opened.lock() = Some(Instant::now());
        }
        Ok(())
    }

    fn sync_message(&self, session: &Session, message: Message) -> Result<Said> {
        // Who is logged in is in the room, but for a moment when this node was started again.
        // Others would miss what is said then.
        let unknown = session.uid() != 0 && self.group.add(session)?;
        if unknown
            || self
                .opened
                .lock()
                .is_some_and(|opened| opened.elapsed() < OPENING)
        {
            return Err(Error::new(
                code::UNAVAILABLE,
                "the room is just opening, say it again",
            ));
        }
        if let Err(error) = session.rpc("TopicService.Stats", &Stats { uid: session.uid() }) {
            tracing::warn!(user = session.uid(), %error, "a message is free of charge");
        }
        self.group.broadcast("onMessage", &message)?;
        Ok(Said { code: 0 })
    }

    /// Runs when a session has closed, which took it out of the group.
    fn left(&self, session: &Session) {
        let Some(nickname) = self.nicknames.lock().remove(&session.id()) else {
            return;
        };
        if let Err(error) = self.group.broadcast(
            "onLeave",
            &Notice {
                content: format!("User left: {nickname}"),
            },
        ) {
            tracing::warn!(nickname, %error, "departure not announced");
        }
    }
}
