//! The room: each message goes to all sessions in it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use clap::Args;
use nano::{
    App, Cluster, Component, Error, Group, Handle, Handlers, Result, Session, Unique, code,
};
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
        .unique_users(Unique::Replace)
}

/// The room. `group` has the sessions in it, `members` what is known of them.
#[derive(Default)]
struct RoomService {
    group: Group,
    members: Mutex<HashMap<i64, Member>>,
    /// When the last session came back after a restart of this node.
    opened: Mutex<Option<Instant>>,
}

struct Member {
    nickname: String,
    /// What the master calls the user.
    master_uid: i64,
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
        if !again {
            self.group.broadcast(
                "onNewUser",
                &Notice {
                    content: format!("User user join: {nickname}"),
                },
            )?;
        }
        let member = Member {
            nickname,
            master_uid,
        };
        self.members.lock().insert(session.id(), member);
        if self.group.add(session)? && again {
            *self.opened.lock() = Some(Instant::now());
        }
        Ok(())
    }

    fn sync_message(&self, session: &Session, message: Message) -> Result<Said> {
        // Who is logged in is in the room, but for a moment when this node was started again.
        // Others would miss what is said then.
        let unknown = session.user().is_some() && self.group.add(session)?;
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
        let uid = self
            .members
            .lock()
            .get(&session.id())
            .map_or(0, |member| member.master_uid);
        if let Err(error) = session.rpc("TopicService.Stats", &Stats { uid }) {
            tracing::warn!(user = uid, %error, "a message is free of charge");
        }
        self.group.broadcast("onMessage", &message)?;
        Ok(Said { code: 0 })
    }

    /// Runs when a session has closed, which took it out of the group.
    fn left(&self, session: &Session) {
        let Some(Member { nickname, .. }) = self.members.lock().remove(&session.id()) else {
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
