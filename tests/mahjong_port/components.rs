//! The three services of the game: players, desks and clubs.

use std::{sync::Arc, thread, time::Duration};

use bytes::Bytes;
use nano::{App, CloseReason, Component, Error, Handle, Handlers, Result, Session, Timeouts, code};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    cipher,
    desk::Operation,
    world::{Player, REPLACED, World},
};

pub(crate) fn app(world: &Arc<World>) -> App {
    App::new()
        .component(Manager(world.clone()))
        .component(DeskManager(world.clone()))
        .component(ClubManager)
        .pipeline(cipher::pipeline())
        .timeouts(Timeouts::new().heartbeat(Duration::from_secs(5)))
        .tcp("127.0.0.1:0")
}

struct Manager(Arc<World>);

#[derive(Deserialize)]
struct Login {
    uid: i64,
    name: String,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
pub(crate) struct LoggedIn {
    #[serde(rename = "acId")]
    pub(crate) uid: i64,
    pub(crate) name: String,
    /// Whether a desk waits for the player.
    pub(crate) playing: bool,
}

impl Component for Manager {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("Login", Self::login)
    }

    fn after_init(self: &Arc<Self>, node: &Handle) -> Result {
        self.0.open(node);
        let world = self.0.clone();
        node.on_session_closed(move |session, reason| {
            world.note_closed(format!("manager {} {}", session.uid(), reason.label()))
        });
        Ok(())
    }
}

impl Manager {
    fn login(&self, session: &Session, login: Login) -> Result<LoggedIn> {
        let player = self.0.player(login.uid, login.name, session);
        let before = player.attach(session);
        if before != *session {
            before.kick(REPLACED);
        }
        session.bind(player.uid)?;
        if !self.0.everyone.add(session)? {
            return Err(Error::new(code::CONFLICT, "logged in already"));
        }
        Ok(LoggedIn {
            uid: player.uid,
            name: player.name.clone(),
            playing: player.desk().is_ok(),
        })
    }
}

struct DeskManager(Arc<World>);

#[derive(Serialize, Deserialize)]
pub(crate) struct DeskNumber {
    #[serde(rename = "deskNo")]
    pub(crate) number: u32,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
pub(crate) struct DeskState {
    #[serde(rename = "deskNo")]
    pub(crate) number: u32,
    pub(crate) players: Vec<i64>,
}

#[derive(Deserialize)]
struct Choice {
    card: u32,
}

impl Component for DeskManager {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("CreateDesk", Self::create_desk)
            .on("Join", Self::join)
            .on("Ready", Self::ready)
            .on("OpChoose", Self::op_choose)
            .on("Pause", Self::pause)
            .on("Resume", Self::resume)
            .on("ReConnect", Self::reconnect)
            .on("ReJoin", Self::rejoin)
            .on("Dissolve", Self::dissolve)
            .raw("VoiceMessage", Self::voice_message)
    }

    fn after_init(self: &Arc<Self>, node: &Handle) -> Result {
        let world = self.0.clone();
        node.on_session_closed(move |session, reason| {
            world.note_closed(format!("desks {} {}", session.uid(), reason.label()));
            if *reason == CloseReason::Kicked(REPLACED.to_owned()) {
                return;
            }
            if let Ok(desk) = Player::of(session).and_then(|player| player.desk()) {
                desk.group
                    .broadcast("onOffline", &json!({ "acId": session.uid() }))
                    .unwrap();
            }
        });
        Ok(())
    }
}

impl DeskManager {
    fn create_desk(&self, session: &Session, (): ()) -> Result<DeskNumber> {
        Player::of(session)?;
        Ok(DeskNumber {
            number: self.0.create_desk().number,
        })
    }

    fn join(&self, session: &Session, wanted: DeskNumber) -> Result<DeskState> {
        let (player, desk) = (Player::of(session)?, self.0.desk(wanted.number)?);
        let players = desk.take_seat(&player)?;
        desk.group
            .broadcast("onPlayerEnter", &json!({ "acId": player.uid }))?;
        desk.group.add(session)?;
        player.sit(Some(desk));
        Ok(DeskState {
            number: wanted.number,
            players,
        })
    }

    fn ready(&self, session: &Session, (): ()) -> Result {
        let desk = Player::of(session)?.desk()?;
        let all = desk.ready(session.uid());
        desk.group
            .broadcast("onReady", &json!({ "acId": session.uid() }))?;
        if all {
            desk.operate(Operation::Deal)
        } else {
            Ok(())
        }
    }

    fn op_choose(&self, session: &Session, choice: Choice) -> Result<Value> {
        let desk = Player::of(session)?.desk()?;
        desk.operate(Operation::Discard {
            uid: session.uid(),
            card: choice.card,
        })?;
        Ok(json!({ "code": 0 }))
    }

    fn pause(&self, session: &Session, (): ()) -> Result<Value> {
        Player::of(session)?.desk()?.pause(true);
        Ok(json!({ "code": 0 }))
    }

    fn resume(&self, session: &Session, (): ()) -> Result<Value> {
        Player::of(session)?.desk()?.pause(false);
        Ok(json!({ "code": 0 }))
    }

    /// What stands on the desk, for a client that comes back.
    fn reconnect(&self, session: &Session, (): ()) -> Result<DeskState> {
        let desk = Player::of(session)?.desk()?;
        Ok(DeskState {
            number: desk.number,
            players: desk.players(),
        })
    }

    /// Sits down again.
    fn rejoin(&self, session: &Session, (): ()) -> Result<DeskNumber> {
        let desk = Player::of(session)?.desk()?;
        desk.group.add(session)?;
        desk.group
            .multicast("onOnline", &json!({ "acId": session.uid() }), |member| {
                member != session
            })?;
        Ok(DeskNumber {
            number: desk.number,
        })
    }

    /// Three ticks, then the desk is gone. The timer ends itself.
    fn dissolve(&self, session: &Session, (): ()) -> Result<Value> {
        let desk = Player::of(session)?.desk()?;
        let (counting, mut rest) = (desk.clone(), 3);
        let timer = self
            .0
            .node()
            .scheduler()
            .interval(Duration::from_millis(10), move || {
                rest -= 1;
                counting
                    .group
                    .broadcast("onDissolveStatus", &json!({ "rest": rest }))
                    .unwrap();
                if rest == 0 {
                    // The handler that made this timer has returned: both run on one scheduler.
                    let timer = counting.countdown.lock().clone().unwrap();
                    timer.stop();
                    counting.dissolve();
                }
            })?;
        *desk.countdown.lock() = Some(timer);
        Ok(json!({ "code": 0 }))
    }

    /// Bytes without a meaning.
    fn voice_message(&self, session: &Session, voice: Bytes) -> Result {
        Player::of(session)?
            .desk()?
            .group
            .broadcast_raw("onVoice", voice)
    }
}

struct ClubManager;

impl Component for ClubManager {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on("ApplyClub", Self::apply_club)
    }
}

impl ClubManager {
    /// The answer comes from a thread that has nothing to do with the node: a database's.
    fn apply_club(&self, session: &Session, club: i64) -> Result {
        let responder = session.responder();
        thread::spawn(move || responder.respond(&json!({ "clubId": club })));
        Ok(())
    }
}
