//! What frames of other nodes do here.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;
use tracing::debug;

use super::{
    link::{
        proto::{Frame, Kind},
        shard::Shard,
        shard_of,
    },
    peer::{InletState, Peer},
    peers::Peers,
    remote::{Remote, Served},
};
use crate::{
    dispatch::Origin,
    error::{Error, Result, code},
    message::Message,
    session::{Call, CallRouter, CloseReason, Push, ReplyTo, Session},
};

impl Peers {
    /// Handles what came on one stream. False when a later stream has taken its place.
    pub(super) fn receive(
        &self,
        peer: &Arc<Peer>,
        shard: usize,
        stream: u64,
        frames: Vec<Frame>,
    ) -> bool {
        let inlet = &peer.inlets[shard];
        let _turn = inlet.turn.lock();
        if !inlet.hear(stream) {
            return false;
        }
        for frame in frames {
            let kind = frame.kind();
            if let Err(error) = self.handle(peer, shard, kind, frame) {
                self.metrics.frames_refused.increment(1);
                debug!(peer = %peer.address, shard, ?kind, %error, "frame refused");
            }
        }
        true
    }

    fn handle(&self, peer: &Arc<Peer>, shard: usize, kind: Kind, mut frame: Frame) -> Result {
        match kind {
            Kind::SessionOpen => self.open(peer, shard, &frame),
            Kind::ResyncDone => self.synced(peer, shard),
            Kind::Message | Kind::Rpc => self.message(peer, shard, kind, frame),
            Kind::Bound => served(peer, shard, frame.session)
                .map(|(session, sink)| sink.bound(&session, &frame)),
            Kind::SessionClosed => self.closed(peer, shard, frame),

            Kind::Response => respond(&peer.shards[shard], frame),
            Kind::Push => self.push(&peer.shards[shard], frame),
            Kind::Bind => self.bind(&peer.shards[shard], &frame),
            Kind::Close => self
                .client(&peer.shards[shard], frame.session)
                .map(|session| session.close_because(frame.take_close().detail)),
            Kind::Kick => self
                .client(&peer.shards[shard], frame.session)
                .map(|session| session.kick(frame.take_close().detail)),
            Kind::Relay => self.relay(peer, shard, frame),
            Kind::RelayCall => self.relay_call(peer, shard, frame),

            Kind::Call => self.answer(peer, shard, frame),
            Kind::Reply => self.reply(frame),
            Kind::Goaway => {
                peer.set_leaving();
                peer.shards[shard].drain();
                Ok(())
            }
            Kind::Drained => {
                peer.drained();
                Ok(())
            }
            Kind::Keepalive => Ok(()),
            Kind::None | Kind::Hello | Kind::Credit | Kind::SessionUnknown => Err(Error::new(
                code::BAD_REQUEST,
                "a frame that does not belong here",
            )),
        }
    }

    /// A client of the peer will send messages here.
    fn open(&self, peer: &Arc<Peer>, shard: usize, frame: &Frame) -> Result {
        if frame.session <= 0 || shard_of(frame.session) != shard {
            return Err(Error::new(code::BAD_REQUEST, "a session on the wrong link"));
        }
        let open = frame.open.as_deref().cloned().unwrap_or_default();
        let inlet = &peer.inlets[shard];
        let mut state = inlet.state.lock();
        state.ended.remove(frame.session);
        let stream = state.stream;
        state.opened = state.opened.max(open.number);
        let (session, sink) = match state.sessions.get_mut(&frame.session) {
            Some(served) => {
                served.stream = stream;
                (served.session.clone(), served.sink.clone())
            }
            None if open.resumed => {
                drop(state);
                inlet.gone(frame.session);
                return Ok(());
            }
            None => {
                let sink = Remote::new(
                    frame.session,
                    peer.clone(),
                    &open.client_address,
                    self.dispatch.clone(),
                );
                let session = self
                    .node
                    .sessions()
                    .open_remote(frame.session, sink.clone());
                state.sessions.insert(
                    frame.session,
                    Served {
                        session: session.clone(),
                        sink: sink.clone(),
                        stream,
                    },
                );
                (session, sink)
            }
        };
        drop(state);
        sink.bound(&session, frame);
        Ok(())
    }

    /// The peer has named all its sessions: the others ended while there was no link.
    fn synced(&self, peer: &Peer, shard: usize) -> Result {
        let ended: HashMap<_, _> = {
            let mut state = peer.inlets[shard].state.lock();
            let InletState {
                sessions, stream, ..
            } = &mut *state;
            sessions
                .extract_if(|_, served| served.stream != *stream)
                .collect()
        };
        let reason = CloseReason::Broken("it ended while its gate could not be reached".to_owned());
        ended.values().for_each(|served| self.end(served, &reason));
        Ok(())
    }

    fn message(&self, peer: &Arc<Peer>, shard: usize, kind: Kind, mut frame: Frame) -> Result {
        let route = frame.take_route()?;
        let id = if kind == Kind::Message {
            frame.request
        } else {
            0
        };
        let timeout = frame.timeout();
        let (session, sink) = match served(peer, shard, frame.session) {
            Ok(found) => found,
            Err(error) => {
                if id != 0 {
                    let answer = Error::new(
                        code::UNAVAILABLE,
                        "the member no longer serves this session",
                    );
                    peer.shards[shard].send(Frame::response(frame.session, id, Err(answer)));
                }
                peer.inlets[shard].gone(frame.session);
                return Err(error);
            }
        };
        let message = if id != 0 {
            Message::request(id, route, frame.body)
        } else {
            Message::notify(route, frame.body)
        };
        sink.arrived();
        if id != 0 {
            sink.expect(id, timeout);
        }
        let origin = if kind == Kind::Rpc {
            Origin::Node
        } else {
            Origin::Client
        };
        self.dispatch
            .deliver(&session.with_request(id), &message, origin);
        Ok(())
    }

    fn closed(&self, peer: &Peer, shard: usize, mut frame: Frame) -> Result {
        let has_go = self.has_go();
        let served = {
            let mut state = peer.inlets[shard].state.lock();
            if has_go {
                state.ended.insert(frame.session);
            }
            state.sessions.remove(&frame.session)
        };
        // Unknown is fine: it ended here first.
        if let Some(served) = served {
            let close = frame.take_close();
            self.end(&served, &CloseReason::of(&close.reason, close.detail));
        }
        Ok(())
    }

    /// A member binds a session of this gate; everybody hears of it from here, that member too, so
    /// that all end with the same uid.
    fn bind(&self, shard: &Shard, frame: &Frame) -> Result {
        let session = self.client(shard, frame.session)?;
        // Not again what was said again because a stream broke: somebody else may have bound it
        // since.
        if shard.binds(frame.session, frame.binds) {
            session.inner().rebind(frame.uid.max(0));
        }
        self.dispatch.bound(&session);
        Ok(())
    }

    /// A stream is up: what its predecessor may have lost of binds is said again.
    pub(super) fn bind_again(&self, peer: &Peer, shard: usize) {
        let state = peer.inlets[shard].state.lock();
        state
            .sessions
            .values()
            .for_each(|served| served.sink.bind_again(&served.session));
    }

    fn relay(&self, peer: &Peer, shard: usize, mut frame: Frame) -> Result {
        let route = frame.take_route()?;
        let session = self.client(&peer.shards[shard], frame.session)?;
        self.dispatch
            .rpc(&session, Message::notify(route, frame.body))
    }

    fn relay_call(&self, peer: &Arc<Peer>, shard: usize, mut frame: Frame) -> Result {
        let caller = caller(peer, shard, &frame);
        let session = match self.client(&peer.shards[shard], frame.session) {
            Ok(session) => session,
            Err(error) => return caller.answer(Err(error)),
        };
        let route = frame.take_route()?;
        self.dispatch.call(Call {
            session: Some(session),
            to: None,
            route,
            body: frame.body,
            caller,
        });
        Ok(())
    }

    /// Another node calls, perhaps on behalf of a session of its own.
    fn answer(&self, peer: &Arc<Peer>, shard: usize, mut frame: Frame) -> Result {
        let caller = caller(peer, shard, &frame);
        let route = frame.take_route()?;
        let session = match frame.session {
            0 => None,
            id => match served(peer, shard, id) {
                Ok((session, sink)) => {
                    sink.arrived();
                    Some(session)
                }
                Err(error) => {
                    peer.inlets[shard].gone(id);
                    return caller.answer(Err(error));
                }
            },
        };
        self.dispatch.answer(Call {
            session,
            to: None,
            route,
            body: frame.body,
            caller,
        });
        Ok(())
    }

    /// A session of this gate that the peer serves, or that a node of Go nano told it of.
    fn client(&self, shard: &Shard, id: i64) -> Result<Session> {
        shard
            .session(id)
            .or_else(|| self.node.sessions().find_local(id))
            .ok_or_else(|| unknown(id))
    }

    fn push(&self, shard: &Shard, mut frame: Frame) -> Result {
        let route = frame.take_route()?;
        let push = Push::new(&route, frame.body);
        if frame.session != 0 {
            return self.client(shard, frame.session)?.sink().push(&push);
        }
        let mut failed = 0;
        for id in frame.sessions {
            if self
                .client(shard, id)
                .and_then(|session| session.sink().push(&push))
                .is_err()
            {
                failed += 1;
            }
        }
        if failed > 0 {
            // Mostly clients that have just gone.
            debug!(failed, %route, "not broadcast to some clients");
        }
        Ok(())
    }

    fn reply(&self, frame: Frame) -> Result {
        let caller = self
            .calls
            .take(frame.request)
            .ok_or_else(|| Error::new(code::NOT_FOUND, "nobody waits for this reply"))?;
        caller.answer(frame.into_answer())
    }
}

/// Answers a call of another node.
fn caller(peer: &Arc<Peer>, shard: usize, frame: &Frame) -> Arc<ReplyTo> {
    let (shard, id) = (peer.shards[shard].clone(), frame.request);
    ReplyTo::new(
        id,
        frame.timeout().map(|timeout| Instant::now() + timeout),
        move |answer| shard.send(Frame::reply(id, answer)),
    )
}

/// A session of the peer's client.
fn served(peer: &Peer, shard: usize, id: i64) -> Result<(Session, Arc<Remote>)> {
    let state = peer.inlets[shard].state.lock();
    let served = state.sessions.get(&id).ok_or_else(|| unknown(id))?;
    Ok((served.session.clone(), served.sink.clone()))
}

fn unknown(id: i64) -> Error {
    Error::new(code::NOT_FOUND, format!("session not found: {id}"))
}

fn respond(shard: &Shard, frame: Frame) -> Result {
    let (session, request) = (frame.session, frame.request);
    let session = shard
        .answered(session, request)
        .ok_or_else(|| Error::new(code::CONFLICT, format!("request {request} does not wait")))?;
    session.answer(frame.into_answer())
}
