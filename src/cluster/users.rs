//! Users of the whole cluster: found, pushed to, kicked, and logged in from any node.
//!
//! Gates hold the truth about their sessions, and tell it to the owners of the
//! [directory](super::directory). A node that looks for a user asks the user's owner, and keeps where
//! it was found. A login goes from the node of the handler to the [gate] of the session, which
//! [claims](login) the user.
//!
//! All of it goes by node calls, but for pushes, which have frames of their own. A standalone node calls
//! itself.

mod api;
mod gate;
mod login;
mod lookup;

mod context;
mod locations;

use std::{any::Any, pin::Pin, sync::Arc};

use bytes::Bytes;
use prost::Message;
use tokio::{runtime, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use self::{
    context::{LOGIN_TIMEOUT, UserContext},
    gate::Gate,
    login::Logins,
    lookup::Lookup,
};
use super::{
    compat::remote::CompatSession,
    directory::{
        driver::Directory,
        follow::{ClusterViews, follow},
        gauges::DirectoryGauges,
        service::DirectoryService,
    },
    link::remote::RemoteSession,
    membership::view_status::ViewStatus,
    node_caller::NodeCaller,
    node_services::{NodeCall, NodeService, NodeServices, unknown},
    players::{LoginReply, LoginRequest},
};
use crate::{
    error::{Error, Result, code},
    handle::{Handle, Location, Login, Missed, Unique, UserRouter},
    kick::Kick,
    member::MemberSet,
    metrics::{Handles, RefusedInput, UserMetrics},
    session::{Push, Session, SessionSink, SessionTable, UserId, UserObserver},
};

type Reply<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What users need of the cluster that the node is in.
pub(crate) struct ClusterPlace {
    pub(crate) incarnation: u64,
    pub(crate) is_master: bool,
    /// The other members.
    pub(crate) members: watch::Receiver<Arc<MemberSet>>,
    pub(crate) view_status: watch::Receiver<ViewStatus>,
}

/// What a node does for users, for its own code and for other nodes.
pub(crate) struct Users {
    context: Arc<UserContext>,
    gate: Gate,
    lookup: Lookup,
    logins: Logins,
    directory: Arc<Directory>,
    _follow: AbortOnDropHandle<()>,
}

impl Users {
    /// Adds the services to a node. Called on a runtime that lives as long as the node. `place` is
    /// `None` for a standalone node.
    pub(crate) fn start(
        caller: NodeCaller,
        services: &NodeServices,
        handle: &Handle,
        place: Option<ClusterPlace>,
        unique: Option<Unique>,
        metrics: &Handles,
    ) -> Arc<Self> {
        let incarnation = place.as_ref().map_or(0, |place| place.incarnation);
        let members = place.as_ref().map(|place| place.members.clone());
        let view_status = place.as_ref().map(|place| place.view_status.clone());
        let context = Arc::new(UserContext {
            caller: caller.clone(),
            sessions: handle.sessions().clone(),
            members,
            view_status,
            unique,
            metrics: UserMetrics::new(metrics),
            runtime: runtime::Handle::current(),
        });
        let gate = Gate(context.clone());
        let gauges = DirectoryGauges::new(metrics);
        let sessions = Arc::new(gate.clone());
        let directory = Directory::new(caller, incarnation, sessions, gauges);
        let views = place.map(|place| ClusterViews {
            is_master: place.is_master,
            members: place.members,
            view_status: place.view_status,
        });
        let users = Arc::new(Self {
            gate,
            _follow: follow(&directory, views),
            lookup: Lookup::new(context.clone(), directory.clone()),
            logins: Logins {
                context: context.clone(),
                directory: directory.clone(),
                warned: Arc::default(),
            },
            directory: directory.clone(),
            context,
        });
        services.insert("Directory", Arc::new(DirectoryService(directory)));
        services.insert("Users", users.clone());
        users
    }

    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    fn spawn<Answer: Message>(
        &self,
        call: NodeCall,
        answer: impl Future<Output = Result<Answer>> + Send + 'static,
    ) {
        self.context.runtime.spawn(async move {
            let answer = answer.await;
            respond(call, answer);
        });
    }
}

impl NodeService for Users {
    fn answer(&self, method: &str, call: NodeCall) {
        let body = call.body.clone();
        let (gate, logins) = (self.gate.clone(), self.logins.clone());
        match method {
            "Find" => respond(call, decode(body).and_then(|request| gate.find(&request))),
            "Kick" => respond(call, decode(body).and_then(|request| gate.kick(&request))),
            "Ended" => self.spawn(call, async move { gate.ended(decode(body)?).await }),
            "Login" => self.spawn(call, async move { logins.login(decode(body)?).await }),
            other => call.fail(unknown(&format!("Users.{other}"))),
        }
    }
}

impl UserObserver for Users {
    fn on_bound(&self, session: i64, user: &dyn Fn() -> Option<UserId>) {
        self.directory.bound(session, user);
    }

    fn on_closed(&self, session: i64) {
        self.directory.closed(session);
    }

    fn claim(&self, session: i64) -> Option<u64> {
        self.directory.claim(session)
    }

    fn on_adopted(&self, session: i64, user: UserId, claim: u64) {
        self.directory.adopted(session, user, claim);
    }

    fn on_moved(&self, session: i64) {
        self.directory.moved(session);
    }
}

impl UserRouter for Users {
    fn locate(&self, user: UserId) -> Reply<Result<Vec<Location>>> {
        let lookup = self.lookup.clone();
        Box::pin(async move {
            let places = lookup.locate(user).await?.into_iter();
            let locations = places.map(|place| Location {
                gate: place.gate.as_ref().to_owned(),
                session: place.session,
            });
            Ok(locations.collect())
        })
    }

    fn push<'a>(
        &'a self,
        users: &'a [UserId],
        push: Push<'a>,
    ) -> Pin<Box<dyn Future<Output = Missed> + Send + 'a>> {
        Box::pin(self.lookup.push(users, push))
    }

    fn kick(&self, user: UserId, kick: Kick) -> Reply<Result<bool>> {
        let lookup = self.lookup.clone();
        Box::pin(async move { lookup.kick(user, kick).await })
    }

    fn input_refused(&self) {
        self.context.sessions.inputs().count(RefusedInput::User);
    }

    fn login(&self, session: Session, user: UserId) -> Reply<Result<Login>> {
        if self.context.unique.is_none() {
            session.bind_checked(user);
            return Box::pin(async { Ok(Login::default()) });
        }
        let context = self.context.clone();
        Box::pin(async move {
            if let Some(remote) = sink::<RemoteSession>(&session) {
                remote.settled().await;
            }
            let gate = gate_of(&session, context.caller.own_address());
            let request = LoginRequest {
                session: session.id(),
                user: Some((&user).into()),
            };
            let key = session.id().unsigned_abs();
            let caller = &context.caller;
            let login = caller.call(&gate?, key, "Users.Login", &request, LOGIN_TIMEOUT);
            let outcome = login.await;
            count(&context.metrics, &outcome);
            let LoginReply { replaced, late } = outcome?;
            Ok(Login { replaced, late })
        })
    }
}

/// The address of the gate of a session.
///
/// # Errors
/// [`code::UNSUPPORTED`] for a gate without links.
fn gate_of(session: &Session, own: &str) -> Result<Arc<str>> {
    if let Some(sink) = CompatSession::of(session) {
        return Err(sink.unsupported());
    }
    Ok(session.sink().gate_address().unwrap_or_else(|| own.into()))
}

fn sink<T: SessionSink>(session: &Session) -> Option<&T> {
    let sink: &dyn Any = &**session.sink();
    sink.downcast_ref()
}

fn count(metrics: &UserMetrics, outcome: &Result<LoginReply>) {
    let counter = match outcome {
        Ok(login) if login.late => &metrics.late,
        Ok(login) if login.replaced => &metrics.replaced,
        Ok(_) => &metrics.granted,
        Err(error) if error.code() == code::CONFLICT => &metrics.refused,
        Err(_) => &metrics.failed,
    };
    counter.increment(1);
}

fn decode<Request: Message + Default>(body: Bytes) -> Result<Request> {
    Request::decode(body)
        .map_err(|error| Error::bad_request("invalid message of another node").with_source(error))
}

fn respond(call: NodeCall, answer: Result<impl Message>) {
    call.respond(answer.map(|answer| answer.encode_to_vec().into()));
}
