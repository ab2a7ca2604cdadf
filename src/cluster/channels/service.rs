//! Channels of one node: what other nodes may ask of it, and what its application may.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::try_join_all;
use prost::Message;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    departure::{arrive, leave_for, stay},
    driver::Driver,
    inbox::{Inbox, Input, KEY},
    message::{Name, ToGate, ToOwner},
    move_input::{MoveInput, Positions},
    request::{Publish, Request, is_moved},
    view::View,
    wire::{decode, from_optional, from_position, position},
};
#[cfg(feature = "admin")]
use crate::channel::ChannelPage;
use crate::{
    channel::{ChannelLimits, ChannelNetwork, Pending, Position, Rejoined, check_name},
    cluster::{
        broadcast::Broadcaster,
        link::remote::RemoteSession,
        node_caller::NodeCaller,
        node_services::{NodeCall, NodeService, NodeServices, unknown},
        players::{
            ChannelEnter, ChannelEntered, ChannelExpect, ChannelGates, ChannelLeave, ChannelLeft,
            ChannelMembers, ChannelName, ChannelPosition, ChannelPublish,
        },
    },
    error::{Error, Result, code},
    handle::Handle,
    metrics::{ChannelMetrics, Handles, InputRefusals, RefusedInput},
    session::{Push, Session, SessionTable, Sessions, UserId},
};

/// How long a call to another node may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);

/// The pause before a call is sent again that a node refused because it is not the owner.
const MOVED_RETRY: Duration = Duration::from_millis(20);

/// The channels of one node. Dropping it ends them.
pub(crate) struct Channels {
    network: Arc<Network>,
    _driver: AbortOnDropHandle<()>,
    _views: AbortOnDropHandle<()>,
}

/// Cheap to keep: it owns neither the node nor its sessions.
struct Network {
    caller: NodeCaller,
    inbox: Arc<Inbox>,
    views: watch::Receiver<View>,
    broadcaster: Broadcaster,
    inputs: Arc<InputRefusals>,
}

impl Channels {
    /// Starts the tasks, and adds the services that other nodes call.
    pub(crate) fn start(
        node: &Handle,
        services: &NodeServices,
        caller: NodeCaller,
        limits: ChannelLimits,
        metrics: &Handles,
    ) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        let started = started.map_or(0, |since| since.as_millis() as u64);
        let (sender, views) = watch::channel(view(node, &caller));
        let metrics = ChannelMetrics::new(metrics);
        let (driver, inbox) = Driver::new(caller.clone(), started, views.clone(), limits, metrics);
        services.insert(
            "Channels",
            Arc::new(ChannelService {
                inbox: inbox.clone(),
                sessions: node.sessions().clone(),
            }),
        );
        let broadcaster = Broadcaster::new(node, services, caller.clone());
        Self {
            _views: AbortOnDropHandle::new(tokio::spawn(follow(
                node.clone(),
                caller.clone(),
                sender,
            ))),
            _driver: AbortOnDropHandle::new(tokio::spawn(driver.run())),
            network: Arc::new(Network {
                caller,
                inbox,
                views,
                broadcaster,
                inputs: node.sessions().inputs(),
            }),
        }
    }

    pub(crate) fn network(&self) -> Arc<dyn ChannelNetwork> {
        self.network.clone()
    }
}

/// The nodes that may own channels: this one, unless it is about to stop, and the members with links.
fn view(node: &Handle, caller: &NodeCaller) -> View {
    let own = (
        caller.own_address().into(),
        node.member().map_or(0, |member| member.incarnation()),
    );
    let members = node.members();
    let members = members.iter().filter(|member| member.info().link);
    let mut nodes: Vec<_> = members
        .map(|member| (member.address().into(), member.incarnation()))
        .collect();
    if nodes.is_empty() || !node.is_shutting_down() {
        nodes.push(own);
    }
    View::new(nodes)
}

/// Publishes the view whenever it may have changed.
async fn follow(node: Handle, caller: NodeCaller, views: watch::Sender<View>) {
    let mut members = node.membership().sets();
    loop {
        let changed = async {
            match &mut members {
                Some(members) => members.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let stopping = node.is_shutting_down();
        tokio::select! {
            open = changed => if !open { return },
            () = node.lifecycle().shutdown_requested(), if !stopping => {}
        }
        views.send_replace(view(&node, &caller));
    }
}

/// Answers other nodes, and this one.
struct ChannelService {
    inbox: Arc<Inbox>,
    sessions: Arc<Sessions>,
}

impl NodeService for ChannelService {
    fn answer(&self, method: &str, call: NodeCall) {
        let weight = call.body.len() + 64;
        let (from, body) = (call.from.clone(), call.body.clone());
        let input = match method {
            _ if self.inbox.is_full() => Err(Error::new(
                code::TOO_MANY,
                "too much waits for the channels of this node",
            )),
            "Join" | "Part" | "Held" | "Handover" => {
                ToOwner::decode(method, body).map(|message| Input::Owner { from, message })
            }
            "Joined" | "Deliver" | "Collect" => {
                ToGate::decode(method, body).map(|message| Input::Gate { from, message })
            }
            _ => {
                let result = self.call(method, call, weight);
                return result.unwrap_or_else(|(call, error)| call.fail(error));
            }
        };
        if let Err(error) = input.and_then(|input| self.inbox.push(input, weight)) {
            call.fail(error);
        }
    }
}

impl ChannelService {
    /// Passes on what is answered later.
    ///
    /// # Errors
    /// Gives the call back.
    fn call(&self, method: &str, call: NodeCall, weight: usize) -> Result<(), (NodeCall, Error)> {
        let body = call.body.clone();
        let input = match method {
            "Publish" => match Publish::decode(body) {
                Ok(publish) => Input::Ask(Request::Publish { call, publish }),
                Err(error) => return Err((call, error)),
            },
            "Gates" | "Members" => match decode::<ChannelName>(body) {
                Err(error) => return Err((call, error)),
                Ok(ChannelName { channel }) => {
                    let channel = channel.into();
                    match method {
                        "Gates" => Input::Ask(Request::Gates { call, channel }),
                        _ => Input::Members { channel, call },
                    }
                }
            },
            "Enter" => match self.enter(body) {
                Err(error) => return Err((call, error)),
                Ok((channel, session, since)) => Input::Join {
                    channel,
                    session,
                    since,
                    reply: Box::new(move |joined| {
                        call.respond(joined.map(|joined| {
                            let entered = ChannelEntered {
                                position: Some(position(joined.position)),
                                recovered: joined.recovered,
                            };
                            entered.encode_to_vec().into()
                        }));
                    }),
                },
            },
            "Expect" => match expect(body) {
                Err(error) => return Err((call, error)),
                Ok((channel, session)) => Input::Move(MoveInput::Expect {
                    channel,
                    session,
                    // The reply has no fields.
                    reply: Box::new(move |expected| call.respond(expected.map(|_| Bytes::new()))),
                }),
            },
            "Leave" => match self.leave(body) {
                Err(error) => return Err((call, error)),
                Ok((channel, session)) => Input::Leave {
                    channel,
                    session,
                    reply: Box::new(move |left| {
                        call.respond(left.map(|left| ChannelLeft { left }.encode_to_vec().into()));
                    }),
                },
            },
            _ => return Err((call, unknown(method))),
        };
        // An error means that the node has stopped, and the drop of the call answers it.
        let _ = self.inbox.push(input, weight);
        Ok(())
    }

    fn enter(&self, body: Bytes) -> Result<(Name, Session, Option<Position>)> {
        let message: ChannelEnter = decode(body)?;
        check_name(&message.channel)?;
        let session = self.local(message.session)?;
        let since = message.since.map(from_position).transpose()?;
        Ok((message.channel.into(), session, since))
    }

    fn leave(&self, body: Bytes) -> Result<(Name, Session)> {
        let message: ChannelLeave = decode(body)?;
        Ok((message.channel.into(), self.local(message.session)?))
    }

    /// A session of this gate, of which another node knew.
    fn local(&self, id: i64) -> Result<Session> {
        self.sessions
            .find_local(id)
            .ok_or_else(|| Error::new(code::CLOSED, format!("session {id} is closed")))
    }
}

fn expect(body: Bytes) -> Result<(Name, i64)> {
    let message: ChannelExpect = decode(body)?;
    check_name(&message.channel)?;
    Ok((message.channel.into(), message.session))
}

impl Network {
    /// Calls the owner of a channel, until one answers that is.
    fn call_owner<Rq, Rp>(
        &self,
        channel: &str,
        method: &'static str,
        request: Rq,
    ) -> impl Future<Output = Result<Rp>> + Send + use<Rq, Rp>
    where
        Rq: Message + 'static,
        Rp: Message + Default + 'static,
    {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let (caller, views, channel) =
            (self.caller.clone(), self.views.clone(), Name::from(channel));
        async move {
            loop {
                let owner = views.borrow().owner(&channel).cloned();
                let owner = owner.ok_or_else(no_owner)?;
                // An owner that has left is in the view for a moment still. Nothing is sent to it, so
                // nothing is published twice.
                if caller.is_member(&owner) {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let result = caller.call(&owner, KEY, method, &request, left).await;
                    if !is_moved(&result) {
                        return result;
                    }
                }
                if Instant::now() + MOVED_RETRY >= deadline {
                    return Err(no_owner());
                }
                sleep(MOVED_RETRY).await;
            }
        }
    }
}

impl Network {
    /// Calls the gate of a session. While the session moves the call waits.
    fn call_gate<Rq, Rp>(
        &self,
        session: Session,
        method: &'static str,
        request: Rq,
    ) -> impl Future<Output = Result<Rp>> + Send + use<Rq, Rp>
    where
        Rq: Message + 'static,
        Rp: Message + Default + 'static,
    {
        let caller = self.caller.clone();
        async move {
            if let Some(remote) = remote(&session) {
                remote.settled().await;
            }
            let gate = session.sink().gate_address().ok_or_else(stopped)?;
            let key = session.id().unsigned_abs();
            let called = caller.call(&gate, key, method, &request, CALL_TIMEOUT);
            called.await
        }
    }
}

impl ChannelNetwork for Network {
    fn join(&self, name: Name, session: Session, since: Option<Position>) -> Pending<Rejoined> {
        if session.sink().gate_address().is_none() {
            let (sender, joined) = oneshot::channel();
            let reply = Box::new(move |result| drop(sender.send(result)));
            let sent = self.inbox.push(
                Input::Join {
                    channel: name,
                    session,
                    since,
                    reply,
                },
                0,
            );
            return Box::pin(async move {
                sent?;
                joined.await.unwrap_or_else(|_| Err(stopped()))
            });
        }
        let request = ChannelEnter {
            channel: name.to_string(),
            session: session.id(),
            since: since.map(position),
        };
        let entered = self.call_gate::<_, ChannelEntered>(session, "Channels.Enter", request);
        Box::pin(async move {
            let entered = entered.await?;
            Ok(Rejoined {
                position: from_optional(entered.position)?,
                recovered: entered.recovered,
            })
        })
    }

    fn input_refused(&self) {
        self.inputs.count(RefusedInput::Channel);
    }

    fn leave(&self, name: Name, session: Session) -> Pending<bool> {
        if session.sink().gate_address().is_none() {
            let (sender, left) = oneshot::channel();
            let reply = Box::new(move |result| drop(sender.send(result)));
            let sent = self.inbox.push(
                Input::Leave {
                    channel: name,
                    session,
                    reply,
                },
                0,
            );
            return Box::pin(async move {
                sent?;
                left.await.unwrap_or_else(|_| Err(stopped()))
            });
        }
        let request = ChannelLeave {
            channel: name.to_string(),
            session: session.id(),
        };
        let left = self.call_gate::<_, ChannelLeft>(session, "Channels.Leave", request);
        Box::pin(async move { Ok(left.await?.left) })
    }

    fn leave_for(&self, session: Session, to: String) -> Pending<Positions> {
        let (inbox, caller) = (self.inbox.clone(), self.caller.clone());
        Box::pin(leave_for(inbox, caller, session, to))
    }

    fn stay(&self, session: &Session) {
        stay(&self.inbox, session);
    }

    fn arrive(&self, session: Session, channels: Positions) -> Pending<()> {
        Box::pin(arrive(self.inbox.clone(), session, channels))
    }

    fn publish(
        &self,
        name: Name,
        route: ByteString,
        body: Bytes,
        keep: Option<(usize, Duration)>,
    ) -> Pending<Position> {
        let (count, ttl) = keep.unwrap_or_default();
        let request = ChannelPublish {
            channel: name.to_string(),
            route: route.into_bytes(),
            body,
            keep: u32::try_from(count).unwrap_or(u32::MAX),
            keep_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        };
        let published = self.call_owner::<_, ChannelPosition>(&name, "Channels.Publish", request);
        Box::pin(async move { published.await.and_then(from_position) })
    }

    fn members(&self, name: Name) -> Pending<(usize, Vec<UserId>)> {
        let request = ChannelName {
            channel: name.to_string(),
        };
        let gates = self.call_owner::<_, ChannelGates>(&name, "Channels.Gates", request.clone());
        let caller = self.caller.clone();
        Box::pin(async move {
            let gates = gates.await?.addresses;
            let members = gates.iter().map(|gate| {
                caller.call::<_, ChannelMembers>(
                    gate,
                    KEY,
                    "Channels.Members",
                    &request,
                    CALL_TIMEOUT,
                )
            });
            let (mut count, mut users) = (0, Vec::new());
            for members in try_join_all(members).await? {
                count += usize::try_from(members.count).unwrap_or(usize::MAX);
                let members = members.users.iter();
                users.extend(members.filter_map(|user| UserId::of_parts(user.uid, &user.text)));
            }
            Ok((count, users))
        })
    }

    #[cfg(feature = "config")]
    fn set_limits(&self, limits: ChannelLimits) {
        // An error means that the node has stopped.
        let _ = self.inbox.push(Input::Limits(limits), 0);
    }

    #[cfg(feature = "admin")]
    fn list(&self, after: String, limit: usize) -> Pending<ChannelPage> {
        let (reply, page) = oneshot::channel();
        let list = Input::List {
            after,
            limit,
            reply,
        };
        let sent = self.inbox.push(list, 0);
        Box::pin(async move {
            sent?;
            page.await.map_err(|_| stopped())
        })
    }

    fn broadcast(&self, push: &Push<'_>) -> Result<Vec<String>> {
        self.broadcaster.broadcast(push)
    }
}

fn remote(session: &Session) -> Option<&RemoteSession> {
    let sink: &dyn Any = &**session.sink();
    sink.downcast_ref()
}

fn no_owner() -> Error {
    Error::new(code::UNAVAILABLE, "the channel has no owner now")
}

fn stopped() -> Error {
    Error::new(code::UNAVAILABLE, "the node has stopped")
}
