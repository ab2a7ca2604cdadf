//! Sessions that move to other gates with their channels.

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use super::{
    inbox::{Inbox, Input, KEY},
    message::Name,
    move_input::{MoveInput, Positions},
};
use crate::{
    cluster::{node_caller::NodeCaller, players::ChannelExpect},
    error::{Error, Result, code},
    session::Session,
};

/// How long the next gate has to enter a channel.
const EXPECT_TIMEOUT: Duration = Duration::from_secs(6);

/// Lets a session leave its channels for the gate at an address. It is sent no publication from then on,
/// until it [stays](stay). Returns up to where it has everything.
///
/// # Errors
/// The next gate cannot enter its channels, or they change. The session is sent what is published.
pub(super) async fn leave_for(
    inbox: Arc<Inbox>,
    caller: NodeCaller,
    session: Session,
    to: String,
) -> Result<Positions> {
    let key = session.key();
    let channels: Vec<Name> = ask(&inbox, |reply| MoveInput::List {
        session: key,
        reply,
    })
    .await?;
    if channels.is_empty() {
        return Ok(Positions::new());
    }
    let expected = channels.iter().map(|channel| {
        let request = ChannelExpect {
            channel: channel.to_string(),
            session: session.id(),
        };
        caller.call::<_, ()>(&to, KEY, "Channels.Expect", &request, EXPECT_TIMEOUT)
    });
    try_join_all(expected).await?;
    // From where the next gate begins, nothing may be on its way here still.
    let located = channels.iter().map(|channel| {
        let channel = channel.clone();
        let located = ask(&inbox, move |sender| {
            let reply = Box::new(move |located| drop(sender.send(located)));
            MoveInput::Locate { channel, reply }
        });
        async { located.await?.map(drop) }
    });
    try_join_all(located).await?;
    ask(&inbox, |reply| MoveInput::Hold {
        session,
        channels,
        reply,
    })
    .await?
}

/// A session that has [departed](leave_for) stays: it is sent what was published since.
pub(super) fn stay(inbox: &Inbox, session: &Session) {
    let session = session.id();
    // An error means that the node has stopped.
    let _ = inbox.push(Input::Move(MoveInput::Release { session }), 0);
}

/// Makes a session a member of the channels that it has left at its former gate.
///
/// # Errors
/// It is not expected here.
pub(super) async fn arrive(inbox: Arc<Inbox>, session: Session, channels: Positions) -> Result {
    ask(&inbox, |reply| MoveInput::Arrive {
        session,
        channels,
        reply,
    })
    .await?
}

/// Hands a step over at once, and returns its result.
fn ask<R, F: FnOnce(oneshot::Sender<R>) -> MoveInput>(
    inbox: &Inbox,
    step: F,
) -> impl Future<Output = Result<R>> + use<R, F> {
    let (sender, result) = oneshot::channel();
    let sent = inbox.push(Input::Move(step(sender)), 0);
    async move {
        sent?;
        let stopped = |_| Error::new(code::UNAVAILABLE, "the node has stopped");
        result.await.map_err(stopped)
    }
}
