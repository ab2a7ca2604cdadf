//! The inputs of a [`LinkState`] that come from the peer: one method for each kind of frame. No I/O.

use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    config::stream_index,
    effect::Effect,
    proto::{Frame, Kind},
    served_session::NewSession,
    session::LinkedSession,
    state::LinkState,
};
use crate::{
    dispatch::Origin,
    error::{Error, Result, code},
};

impl<S: LinkedSession> LinkState<S> {
    /// A batch has arrived on an inbound stream; `traffic` if it is [more than a sign of
    /// life](super::frame::is_traffic). False if the stream is not the current one.
    pub(super) fn hear(
        &mut self,
        stream: u64,
        traffic: bool,
        effects: &mut Vec<Effect<S>>,
    ) -> bool {
        let current = self.receiver.hear(stream);
        if current {
            self.sender.unheard = false;
            if traffic {
                self.sender.used = true;
                effects.extend(self.sender.want().map(Effect::Wake));
            }
        }
        current
    }

    /// Handles one frame of an inbound stream. False if the stream is not the current one any more.
    ///
    /// `now` is called for frames with a deadline only. `open` makes the handle of a session that
    /// begins; `remember` keeps those that end from being
    /// opened by late messages of nodes outside of links.
    pub(super) fn receive(
        &mut self,
        stream: u64,
        frame: Frame,
        now: impl FnOnce() -> Instant,
        remember: bool,
        effects: &mut Vec<Effect<S>>,
        open: &mut dyn FnMut(NewSession<'_>) -> S,
    ) -> bool {
        if !self.receiver.is_current(stream) {
            return false;
        }
        if let Err(error) = self.handle(frame, now, remember, effects, open) {
            effects.push(Effect::Refused(error));
        }
        true
    }

    fn handle(
        &mut self,
        mut frame: Frame,
        now: impl FnOnce() -> Instant,
        remember: bool,
        effects: &mut Vec<Effect<S>>,
        open: &mut dyn FnMut(NewSession<'_>) -> S,
    ) -> Result {
        match frame.kind() {
            Kind::SessionOpen => {
                if frame.session <= 0 || stream_index(frame.session) != self.index {
                    return Err(Error::new(
                        code::BAD_REQUEST,
                        "a session on the wrong stream",
                    ));
                }
                let writer = self.receiver.session_open(frame, open);
                effects.extend(writer.map(Effect::Wake));
            }
            Kind::ResyncDone => self.receiver.resync_done(effects),
            Kind::Message | Kind::Rpc => return self.deliver(frame, now, effects),
            Kind::Bound => return self.receiver.bound(&frame),
            Kind::Shared => return self.receiver.shared(frame),
            Kind::SessionClosed => self.receiver.session_closed(&mut frame, remember, effects),

            Kind::Response => {
                let session = self
                    .sender
                    .answered(frame.session, frame.request)
                    .ok_or_else(|| not_in_flight(frame.request))?;
                self.request_answered(frame.session, (frame.request, frame.error), effects);
                effects.push(Effect::Respond { session, frame });
            }
            Kind::Push if frame.session == 0 => {
                let sessions = std::mem::take(&mut frame.sessions)
                    .into_iter()
                    .map(|id| (id, self.sender.session(id)))
                    .collect();
                effects.push(Effect::Multicast { sessions, frame });
            }
            Kind::Bind => {
                // One that is sent again because a stream broke must not undo a later one.
                let applies = self.sender.applies_bind(frame.session, frame.binds);
                effects.push(Effect::Bind {
                    session: self.sender.session(frame.session),
                    id: frame.session,
                    user: applies.then(|| frame.user_id()),
                });
            }
            Kind::Route => return self.route_for_gate(frame, effects),
            Kind::Share => return self.share_for_gate(frame, effects),
            Kind::Push | Kind::Close | Kind::Kick | Kind::RpcViaGate | Kind::CallViaGate => {
                self.for_gate(frame, effects);
            }

            Kind::Call => return self.deliver_call(frame, effects),
            Kind::NodeCall => {
                let method = frame.take_route()?;
                effects.push(Effect::NodeCall { method, frame });
            }
            Kind::UserPush => effects.push(Effect::UserPush(frame)),
            Kind::UsersPushed => self.handle_users_pushed(&frame, effects),
            Kind::Reply => effects.push(Effect::Reply(frame)),
            Kind::Cancel => effects.push(Effect::CancelCall(frame.request)),
            Kind::Goaway => {
                let writer = self.sender.peer_draining();
                effects.extend(writer.map(Effect::Wake));
                effects.push(Effect::PeerDraining);
            }
            Kind::Cordon => {
                self.peer_cordoned = true;
                effects.push(Effect::PeerDraining);
            }
            Kind::Drained => self.receiver.set_drained(),
            Kind::Keepalive => self.handle_keepalive(frame.request, effects),
            Kind::Ping => self.handle_ping(frame.request, effects),
            Kind::Idle => self.handle_idle(effects),
            Kind::StreamLost => {
                if self.sender.lose(frame.stream) {
                    self.outbound_down(now(), effects);
                }
            }
            Kind::None | Kind::Hello | Kind::Credit | Kind::SessionUnknown => {
                return Err(misplaced());
            }
        }
        Ok(())
    }

    /// A ROUTE for a session of this gate, acknowledged by a BOUND.
    fn route_for_gate(&mut self, mut frame: Frame, effects: &mut Vec<Effect<S>>) -> Result {
        let id = frame.session;
        let service = frame.take_route()?;
        let address = ByteString::try_from(std::mem::take(&mut frame.body))
            .map_err(|_| Error::new(code::BAD_REQUEST, "an address that is not UTF-8"))?;
        let session = self.sender.session(id);
        if self.sender.applies_bind(id, frame.binds) {
            effects.push(Effect::Route {
                session: session.clone(),
                id,
                service,
                address: (!address.is_empty()).then_some(address),
            });
        }
        let writer = session.and_then(|session| self.sender.session_bound(&session));
        effects.extend(writer.map(Effect::Wake));
        Ok(())
    }

    fn for_gate(&self, frame: Frame, effects: &mut Vec<Effect<S>>) {
        effects.push(Effect::Gate {
            session: self.sender.session(frame.session),
            frame,
        });
    }

    /// A message for a handler of this node.
    fn deliver(
        &mut self,
        mut frame: Frame,
        now: impl FnOnce() -> Instant,
        effects: &mut Vec<Effect<S>>,
    ) -> Result {
        let route = frame.take_route()?;
        let (request, origin) = match frame.kind() {
            Kind::Message => (frame.request, Origin::Client),
            _ => (0, Origin::Node),
        };
        let id = frame.session;
        // The clock is read for deadlines only.
        let deadline = || frame.timeout().map(|timeout| (now(), timeout));
        match self.receiver.arrived(id, request, deadline) {
            Ok(session) => {
                effects.push(Effect::Deliver {
                    session,
                    request,
                    route,
                    trace: frame.take_trace(),
                    body: frame.body,
                    origin,
                });
                Ok(())
            }
            Err(error) => {
                if request != 0 {
                    let answer = Error::new(
                        code::UNAVAILABLE,
                        "the member no longer serves this session",
                    );
                    let writer = self.sender.push(Frame::response(id, request, Err(answer)));
                    effects.extend(writer.map(Effect::Wake));
                }
                effects.extend(self.receiver.session_unknown(id).map(Effect::Wake));
                Err(error)
            }
        }
    }

    /// A call for a handler of this node. One on behalf of a session counts for its window.
    fn deliver_call(&mut self, mut frame: Frame, effects: &mut Vec<Effect<S>>) -> Result {
        let (id, request) = (frame.session, frame.request);
        let accepted = frame.take_route().and_then(|route| {
            let session = match id {
                0 => None,
                id => Some(self.receiver.arrived(id, 0, || None).inspect_err(|_| {
                    let writer = self.receiver.session_unknown(id);
                    effects.extend(writer.map(Effect::Wake));
                })?),
            };
            Ok((session, route))
        });
        match accepted {
            Ok((session, route)) => effects.push(Effect::DeliverCall {
                session,
                frame,
                route,
            }),
            Err(error) => {
                let writer = self.sender.push(Frame::reply(request, Err(error)));
                effects.extend(writer.map(Effect::Wake));
            }
        }
        Ok(())
    }

    /// Handles a frame of the answer stream.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for any but CREDIT, SESSION_UNKNOWN and IDLE.
    pub(super) fn answer(&mut self, frame: &Frame, effects: &mut Vec<Effect<S>>) -> Result {
        match frame.kind() {
            Kind::Credit => {
                let reader = self.sender.credit(frame.session, frame.credit);
                effects.extend(reader.map(Effect::Wake));
            }
            Kind::SessionUnknown => {
                self.sender
                    .session_unknown(frame.session, frame.opened, effects);
            }
            Kind::Idle => self.sender.retired(),
            _ => return Err(misplaced()),
        }
        Ok(())
    }
}

fn misplaced() -> Error {
    Error::new(
        code::BAD_REQUEST,
        "a frame of a kind that does not belong here",
    )
}

fn not_in_flight(request: u64) -> Error {
    Error::new(
        code::CONFLICT,
        format!("request {request} does not wait for an answer"),
    )
}
