//! The messages between the nodes. The fields are those of nano's example; a node of Go nano
//! ignores `again`.

use serde::{Deserialize, Serialize};

/// `TopicService.NewUser`: a user has logged in at a gate.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NewUser {
    pub(crate) nickname: String,
    pub(crate) gate_uid: i64,
    /// Repeats an earlier login for a node that was restarted.
    pub(crate) again: bool,
}

/// `RoomService.JoinRoom`: a user enters the room.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct JoinRoom {
    pub(crate) nickname: String,
    pub(crate) gate_uid: i64,
    pub(crate) master_uid: i64,
    pub(crate) again: bool,
}

/// `TopicService.Stats`: a user has sent a message.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Stats {
    pub(crate) uid: i64,
}

/// The push of something to be read.
#[derive(Serialize)]
pub(crate) struct Notice {
    pub(crate) content: String,
}
