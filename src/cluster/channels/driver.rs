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
#[cfg(feature = "admin")]
use tokio::sync::oneshot;
use tokio::{
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        watch,
    },
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{
    gate::{Gate, GateEffect},
    message::{Name, Publication, ToGate, ToOwner},
    owner::Owner,
    request::{OwnerEffect, Request},
    view::{Address, View},
    wire::{self, Encoded},
};
#[cfg(feature = "admin")]
use crate::channel::ChannelPage;
use crate::{
    channel::{ChannelLimits, Position, Rejoined},
    cluster::{
        node_caller::NodeCaller,
        node_services::NodeCall,
        players::{ChannelGates, ChannelMembers, ChannelUser},
    },
    error::{Error, Result, code},
    metrics::ChannelMetrics,
    session::{GroupRef, Push, Session, SessionKey, UserId},
};

/// The stream of links that all messages of channels use, so that they keep their order.
pub(super) const KEY: u64 = 0;

/// Bytes that may wait for the task, at most.
const MAX_QUEUED: usize = 64 * 1024 * 1024;

/// Inputs that are handled before the task lets others have the thread.
const TURN: usize = 256;

/// What the task is fed.
pub(super) enum Input {
    Join {
        channel: Name,
        session: Session,
        since: Option<Position>,
        reply: JoinReply,
    },
    Leave {
        channel: Name,
        session: Session,
        reply: LeaveReply,
    },
    /// A session has ended.
    Ended(SessionKey),
    /// What the owner is asked.
    Ask(Request<NodeCall>),
    /// A message for the owner.
    Owner { from: Address, message: ToOwner },
    /// A message of an owner.
    Gate { from: Address, message: ToGate },
    /// Which members does this gate have?
    Members { channel: Name, call: NodeCall },
    /// Which channels have members here?
    #[cfg(feature = "admin")]
    List {
        after: String,
        limit: usize,
        reply: oneshot::Sender<ChannelPage>,
    },
}

pub(super) type JoinReply = Box<dyn FnOnce(Result<Rejoined>) + Send>;
pub(super) type LeaveReply = Box<dyn FnOnce(Result<bool>) + Send>;

/// The way into the task.
pub(super) struct Inbox {
    inputs: UnboundedSender<(Input, usize)>,
    /// Bytes of the inputs that wait.
    queued: Arc<AtomicUsize>,
}

impl Inbox {
    /// Whether so much waits that nothing more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > MAX_QUEUED
    }

    /// Hands an input over that weighs so many bytes; 0 for one that is bounded elsewhere.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] when the node has stopped.
    pub(super) fn push(&self, input: Input, weight: usize) -> Result {
        self.queued.fetch_add(weight, Ordering::Relaxed);
        self.inputs
            .send((input, weight))
            .map_err(|_| Error::new(code::UNAVAILABLE, "the node has stopped"))
    }
}

/// Lets the task know of members that end.
impl GroupRef for Inbox {
    fn forget(&self, member: SessionKey) {
        // An error means that the node has stopped.
        let _ = self.push(Input::Ended(member), 0);
    }

    /// Stands for all channels of a session.
    #[cfg(feature = "admin")]
    fn name(&self) -> Option<&str> {
        None
    }
}

/// A join that waits for the owner.
struct JoinCall {
    session: SessionKey,
    /// Whether it asked for what it has missed.
    returns: bool,
    reply: JoinReply,
}

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
            gate: Gate::new(limits.per_session),
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
                if !self.knows(&session) {
                    let error =
                        Error::new(code::CLOSED, format!("session {} is closed", session.id()));
                    return reply(Err(error));
                }
                let call = JoinCall {
                    session: key,
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
                let left = self.gate.leave(&channel, &session.key(), &mut gate);
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
            Input::Members { channel, call } => self.members(&channel, call),
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

    /// Keeps a session, whose end the task hears of from now on. False if it has ended.
    fn knows(&mut self, session: &Session) -> bool {
        if self.sessions.contains_key(&session.key()) {
            return true;
        }
        let joined = session.inner().close_state.join(self.group());
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
            session.inner().close_state.leave(&self.group());
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

    fn apply(
        &mut self,
        owner: Vec<OwnerEffect<NodeCall>>,
        gate: Vec<GateEffect<SessionKey, JoinCall>>,
    ) {
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
                    if result.is_err() && !self.gate.has(&call.session) {
                        self.forget(call.session);
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
                debug!(session = session.id(), uid = session.uid(), route = push.route(), %error, "publication not pushed to a member");
            }
        }
    }
}
