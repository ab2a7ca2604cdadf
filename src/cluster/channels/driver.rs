//! The task that feeds the owner and the gate of one node, and does what they ask for, in order.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use prost::Message;
use tokio::{
    sync::{
        mpsc::{self, UnboundedReceiver},
        watch,
    },
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{
    gate::{Gate, GateEffect},
    inbox::{Inbox, Input, KEY},
    message::{Publication, ToGate, ToOwner},
    move_input::{JoinReply, MoveInput},
    owner::Owner,
    request::OwnerEffect,
    view::View,
    wire::{self, Encoded},
};
use crate::{
    channel::{ChannelLimits, Rejoined},
    cluster::{
        node_caller::NodeCaller,
        node_services::NodeCall,
        players::{ChannelGates, ChannelMembers, ChannelUser},
    },
    error::{Error, code},
    metrics::ChannelMetrics,
    session::{CloseReason, GroupRef, Push, Session, SessionKey, UserId},
};

/// Inputs that are handled before the task lets others have the thread.
const TURN: usize = 256;

/// A join that waits for the owner.
struct JoinCall {
    /// `None` for a session of another gate.
    session: Option<SessionKey>,
    /// Whether it asked for what it has missed.
    returns: bool,
    reply: JoinReply,
}

/// What the gate asks for.
type Effects = Vec<GateEffect<SessionKey, JoinCall>>;

/// The state of the task.
pub(super) struct Driver {
    owner: Owner<NodeCall>,
    gate: Gate<SessionKey, JoinCall>,
    /// The sessions that are members, or join.
    sessions: HashMap<SessionKey, Session>,
    caller: NodeCaller,
    inbox: Weak<Inbox>,
    inputs: UnboundedReceiver<(Input, usize)>,
    queued: Arc<AtomicUsize>,
    views: watch::Receiver<View>,
    metrics: ChannelMetrics,
}

impl Driver {
    /// `started` is the time in milliseconds.
    pub(super) fn new(
        caller: NodeCaller,
        started: u64,
        views: watch::Receiver<View>,
        limits: ChannelLimits,
        metrics: ChannelMetrics,
    ) -> (Self, Arc<Inbox>) {
        let (sender, inputs) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let inbox = Arc::new(Inbox {
            inputs: sender,
            queued: queued.clone(),
        });
        let driver = Self {
            owner: Owner::new(
                caller.own_address().into(),
                started,
                limits.most,
                Instant::now(),
            ),
            gate: Gate::new(limits.per_session, started),
            sessions: HashMap::new(),
            caller,
            inbox: Arc::downgrade(&inbox),
            inputs,
            queued,
            views,
            metrics,
        };
        (driver, inbox)
    }

    /// Runs until the node stops.
    pub(super) async fn run(mut self) {
        self.set_view();
        loop {
            let next = [self.owner.next_deadline(), self.gate.next_deadline()];
            let next = next.into_iter().flatten().min();
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = self.views.changed() => match changed {
                    Ok(()) => self.set_view(),
                    Err(_) => return,
                },
                input = self.inputs.recv() => match input {
                    Some(input) => self.turn(input),
                    None => return,
                },
                () = due => self.tick(),
            }
            tokio::task::consume_budget().await;
        }
    }

    fn turn(&mut self, first: (Input, usize)) {
        let mut next = Some(first);
        let mut left = TURN;
        while let Some((input, weight)) = next {
            self.queued.fetch_sub(weight, Ordering::Relaxed);
            self.handle(input);
            left -= 1;
            next = if left > 0 {
                self.inputs.try_recv().ok()
            } else {
                None
            };
        }
    }

    fn set_view(&mut self) {
        let view = self.views.borrow_and_update().clone();
        let (now, mut owner, mut gate) = (Instant::now(), Vec::new(), Vec::new());
        self.owner.set_view(view.clone(), now, &mut owner);
        self.gate.set_view(view, now, &mut gate);
        self.apply(owner, gate);
    }

    fn tick(&mut self) {
        let (now, mut owner, mut gate) = (Instant::now(), Vec::new(), Vec::new());
        self.owner.tick(now, &mut owner);
        self.gate.tick(now, &mut gate);
        self.apply(owner, gate);
    }

    fn handle(&mut self, input: Input) {
        let (now, mut owner, mut gate) = (Instant::now(), Vec::new(), Vec::new());
        match input {
            Input::Join {
                channel,
                session,
                since,
                reply,
            } => {
                let key = session.key();
                if self.gate.is_held(&key) {
                    return reply(Err(moves()));
                }
                if !self.knows(&session) {
                    return reply(Err(closed(&session)));
                }
                let call = JoinCall {
                    session: Some(key),
                    returns: since.is_some(),
                    reply,
                };
                self.gate.join(&channel, key, since, call, now, &mut gate);
            }
            Input::Leave {
                channel,
                session,
                reply,
            } => {
                let key = session.key();
                if self.gate.is_held(&key) {
                    return reply(Err(moves()));
                }
                let left = self.gate.leave(&channel, &key, &mut gate);
                reply(Ok(left));
            }
            Input::Ended(session) => {
                self.gate.close(&session, &mut gate);
                self.sessions.remove(&session);
            }
            Input::Ask(request) => self.owner.request(request, now, &mut owner),
            Input::Owner { from, message } => {
                self.owner.receive(&from, message, now, &mut owner);
            }
            Input::Gate { from, message } => self.gate.receive(&from, message, now, &mut gate),
            Input::Move(step) => self.take_step(step, now, &mut gate),
            Input::Members { channel, call } => self.members(&channel, call),
            #[cfg(feature = "config")]
            Input::Limits(limits) => {
                self.owner.max_channels = limits.most;
                self.gate.max_per_member = limits.per_session;
            }
            #[cfg(feature = "admin")]
            Input::List {
                after,
                limit,
                reply,
            } => {
                // An error means that the admin server waits no longer.
                let _ = reply.send(self.gate.list(&after, limit));
            }
        }
        self.apply(owner, gate);
    }

    /// A session moves.
    fn take_step(&mut self, step: MoveInput, now: Instant, effects: &mut Effects) {
        let call = |reply| JoinCall {
            session: None,
            returns: false,
            reply,
        };
        // A reply is of no use when its receiver is gone.
        match step {
            MoveInput::List { session, reply } => {
                let _ = reply.send(self.gate.channels_of(&session));
            }
            MoveInput::Expect {
                channel,
                session,
                reply,
            } => self
                .gate
                .expect(&channel, session, call(reply), now, effects),
            MoveInput::Locate { channel, reply } => {
                self.gate.locate(&channel, call(reply), now, effects);
            }
            MoveInput::Hold {
                session,
                channels,
                reply,
            } => {
                let key = session.key();
                let _ = reply.send(self.gate.hold(session.id(), &key, &channels));
            }
            MoveInput::Release { session } => self.gate.release(session, now, effects),
            MoveInput::Arrive {
                session,
                channels,
                reply,
            } => {
                let (id, key) = (session.id(), session.key());
                let arrived = match self.knows(&session) {
                    true => self.gate.arrive(id, &key, &channels, now, effects),
                    false => Err(closed(&session)),
                };
                if !self.gate.has(&key) {
                    self.forget(key);
                }
                let _ = reply.send(arrived);
            }
        }
    }

    /// Keeps a session, whose end the task hears of from now on. False if it has ended.
    fn knows(&mut self, session: &Session) -> bool {
        if self.sessions.contains_key(&session.key()) {
            return true;
        }
        let joined = session.inner().close_state.enter_channels(self.group());
        if joined {
            self.sessions.insert(session.key(), session.with_request(0));
        }
        joined
    }

    fn group(&self) -> Weak<dyn GroupRef> {
        self.inbox.clone()
    }

    fn forget(&mut self, session: SessionKey) {
        if let Some(session) = self.sessions.remove(&session) {
            session.inner().close_state.leave_channels();
        }
    }

    fn members(&self, channel: &str, call: NodeCall) {
        let members = self.gate.members(channel);
        let sessions = members.iter().filter_map(|key| self.sessions.get(key));
        let users = sessions.filter_map(Session::user).map(|user| {
            let (uid, text) = UserId::parts(Some(&user));
            ChannelUser {
                uid,
                text: text.to_owned(),
            }
        });
        let answer = ChannelMembers {
            count: members.len() as u64,
            users: users.collect(),
        };
        call.respond(Ok(answer.encode_to_vec().into()));
    }

    fn apply(&mut self, owner: Vec<OwnerEffect<NodeCall>>, gate: Effects) {
        for effect in owner {
            match effect {
                OwnerEffect::Send { to, message } => {
                    let delivers = matches!(message, ToGate::Deliver { .. });
                    if !self.send(&to, message.encode()) && delivers {
                        self.metrics.dropped_by_link.increment(1);
                    }
                }
                OwnerEffect::HandOver { to, handover } => {
                    self.send(&to, ToOwner::Handover(handover).encode());
                }
                OwnerEffect::Published { call, position } => {
                    self.metrics.publications.increment(1);
                    let position = wire::position(position).encode_to_vec();
                    call.respond(Ok(position.into()));
                }
                OwnerEffect::Gates { call, gates } => {
                    let addresses = gates.iter().map(ToString::to_string).collect();
                    let gates = ChannelGates { addresses }.encode_to_vec();
                    call.respond(Ok(gates.into()));
                }
                OwnerEffect::Fail { call, error } => {
                    self.count_refused(&error);
                    call.fail(error);
                }
            }
        }
        for effect in gate {
            match effect {
                GateEffect::Send { to, message } => {
                    self.send(&to, message.encode());
                }
                GateEffect::Push {
                    members,
                    publication,
                } => self.push(&members, &publication),
                GateEffect::Joined { call, result } => {
                    if let Some(session) = call.session
                        && result.is_err()
                        && !self.gate.has(&session)
                    {
                        self.forget(session);
                    }
                    match &result {
                        Ok((_, recovered)) if call.returns => self.count_return(*recovered),
                        Ok(_) => {}
                        Err(error) => self.count_refused(error),
                    }
                    (call.reply)(result.map(|(position, recovered)| Rejoined {
                        position,
                        recovered,
                    }));
                }
                GateEffect::Left(session) => self.forget(session),
                GateEffect::Missed(session) => {
                    if let Some(session) = self.sessions.get(&session) {
                        session.sink().close(CloseReason::SlowClient);
                    }
                }
                GateEffect::Dropped => self.metrics.dropped_late.increment(1),
            }
        }
        self.metrics.channels.set(self.owner.channels() as f64);
        self.metrics.members.set(self.gate.memberships() as f64);
    }

    fn count_refused(&self, error: &Error) {
        if error.code() == code::TOO_MANY {
            self.metrics.refused.increment(1);
        }
    }

    fn count_return(&self, recovered: bool) {
        let outcome = match recovered {
            true => &self.metrics.recovered,
            false => &self.metrics.lost,
        };
        outcome.increment(1);
    }

    /// Returns whether a message is on its way. One that is lost leaves a gap, or is sent again by the
    /// state machines.
    fn send(&self, to: &str, (method, body): Encoded) -> bool {
        let sent = self.caller.send_encoded(to, KEY, method, Bytes::from(body));
        if let Err(error) = &sent {
            debug!(to, method, %error, "message of a channel not sent");
        }
        sent.is_ok()
    }

    fn push(&self, members: &[SessionKey], publication: &Publication) {
        let push = Push::new(&publication.route, publication.body.clone());
        for session in members.iter().filter_map(|key| self.sessions.get(key)) {
            if let Err(error) = session.sink().push(&push) {
                debug!(session = session.id(), user = session.logged_user(), route = push.route(), %error, "publication not pushed to a member");
            }
        }
    }
}

fn closed(session: &Session) -> Error {
    Error::new(code::CLOSED, format!("session {} is closed", session.id()))
}

fn moves() -> Error {
    let text = "the session moves to another gate";
    Error::new(code::UNAVAILABLE, text)
}
