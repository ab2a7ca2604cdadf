//! Sessions that come from a gate which drains.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::debug;

use super::{
    connection::Connection,
    detached::keep_away,
    handle::ConnectionHandle,
    migration_message::{ATTACH, Arrived, read},
    migration_state::Arriving,
    opening::Opening,
    resume::disconnected::Disconnected,
    resume_handshake::{Resumption, Uncounted},
    session_guard::SessionGuard,
    shared::Shared,
};
use crate::{
    channel::Position,
    cluster::{SessionAdopt, SessionAttach},
    error::{Error, Result, code},
    member::Member,
    net::transport::BoxTransport,
    session::{CloseReason, Session, SessionSink},
};

/// How long a node that serves a session has to attach it.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(3);

/// Decides about a session of the gate at the address `from`. Returns what goes on with it, which is done
/// when the nodes that serve the session have attached it, or it is lost there; `None` if this gate has
/// the session, or has had it. From now on the session arrives.
///
/// # Errors
/// This gate does not have the session. [`code::UNAVAILABLE`] says nothing, for the same call is under
/// way; nor does [`code::NOT_FOUND`], for the call is for an earlier incarnation.
pub(super) fn adopt(
    gate: Arc<Shared>,
    message: SessionAdopt,
    from: Arc<str>,
) -> Result<Option<impl Future<Output = Result> + Send>> {
    let id = message.session;
    let own = gate.node.member().map_or(0, Member::incarnation);
    let arrived = read(message, own, &gate.limits, Instant::now())?;
    let secret = &arrived.secrets.current;
    let Some(arriving) = gate.migrations.admit(id, secret, &gate.resumable)? else {
        return Ok(None);
    };
    let window = takes(&gate)?;
    Ok(Some(go_on(gate, arrived, (arriving, window), from)))
}

async fn go_on(
    gate: Arc<Shared>,
    arrived: Arrived,
    (_arriving, window): (Arriving, Duration),
    from: Arc<str>,
) -> Result {
    let (id, secret, served) = (arrived.id, arrived.secrets.current, arrived.served.clone());
    let remember = arrived.remember;
    let connection = open(&gate, arrived).await?;
    gate.migrations
        .arrived(id, secret, remember, Instant::now());
    let session = connection.session.clone();
    debug!(session = id, user = session.logged_user(), gate = %from, "session adopted");
    let attached = attach(&gate, &session, &from, served);
    let guard = SessionGuard::new(gate.clone(), connection.handle.clone(), session);
    let kept = gate.clone();
    tokio::spawn(async move {
        // Its connection was lost at the other gate.
        let lost = (CloseReason::Client.into(), None);
        let end = Box::pin(keep_away(connection, lost, &kept, window)).await;
        end.finish(guard).await;
    });
    attached.await;
    Ok(())
}

/// Checks that this gate takes sessions of others. Returns how long their clients may stay away.
///
/// # Errors
/// [`code::UNSUPPORTED`] without listeners or a window, [`code::CONFLICT`] while it is not ready.
pub(super) fn takes(gate: &Shared) -> Result<Duration> {
    if !gate.node.readiness().is_ready() {
        return Err(Error::new(code::CONFLICT, "the gate takes no new sessions"));
    }
    let window = gate.config.resume_window;
    let window = window.filter(|_| gate.migrations.is_listening());
    window.ok_or_else(|| {
        let text = "no client can return to a session here";
        Error::new(code::UNSUPPORTED, text)
    })
}

/// Opens the session, with its client away.
///
/// # Errors
/// It cannot be here.
async fn open(gate: &Arc<Shared>, arrived: Arrived) -> Result<Connection<BoxTransport>> {
    let sessions = gate.node.sessions();
    let requests_by = arrived.client.in_flight.next_deadline();
    let handle = Arc::new(ConnectionHandle::new(gate.clone(), arrived.remote));
    handle.adopt(arrived.client);
    let session = sessions.adopt(arrived.id, handle.clone());
    let session =
        session.ok_or_else(|| Error::new(code::CONFLICT, "another session has this id"))?;
    let shared = arrived.shared.into_iter();
    let filled = shared
        .map(|(key, json)| session.inner().shared.set(&key, Some(json)).map(drop))
        .collect::<Result<Vec<_>>>();
    let most = gate.limits.max_connections().saturating_mul(2);
    let secrets = arrived.secrets;
    let entered = match filled {
        Ok(_) => enter(gate, &session, arrived.channels).await,
        Err(error) => Err(error),
    };
    let added = entered.and_then(|()| {
        let added = gate
            .resumable
            .adopt(arrived.id, handle.clone(), secrets, most);
        match added {
            true => Ok(()),
            false => Err(Error::new(code::CONFLICT, "too many sessions")),
        }
    });
    if let Err(error) = added {
        handle.end();
        sessions.discard(&session);
        return Err(error);
    }
    for (service, address) in &arrived.bindings {
        session.inner().bindings.set(service, Some(address));
    }
    if let Some(user) = arrived.user {
        sessions.bind_adopted(&session, user, arrived.claim);
    }
    if gate.node.is_shutting_down() {
        handle.close(CloseReason::Shutdown);
    }
    let opening = Opening::new(gate.limits.max_packet());
    let transport: BoxTransport = Box::new(Disconnected);
    let mut connection =
        Connection::new(gate.clone(), handle, session, transport, opening, "".into());
    connection.resumption = Resumption::Allowed(Uncounted::default());
    connection.opened = true;
    connection.login_by = arrived.login_by;
    connection.requests_by = requests_by;
    Ok(connection)
}

/// Makes the session a member of the channels that it has left at its former gate.
///
/// # Errors
/// It is not expected there.
async fn enter(gate: &Shared, session: &Session, channels: Vec<(Arc<str>, Position)>) -> Result {
    if channels.is_empty() {
        return Ok(());
    }
    let network = gate.node.channel_network();
    let network = network.ok_or_else(|| Error::new(code::CONFLICT, "the node stops"))?;
    network.arrive(session.typed(), channels).await
}

/// Asks the nodes that serve the session to go on with it for this gate. The calls are under way when
/// this returns: what is sent to those nodes follows them.
fn attach(
    gate: &Arc<Shared>,
    session: &Session,
    from: &str,
    served: Vec<(String, Vec<u64>)>,
) -> impl Future<Output = ()> + Send + use<> {
    let key = session.id().unsigned_abs();
    let cluster = gate.dispatch.cluster().cloned();
    let tunnels = gate.tunnels.as_ref();
    let calls: Vec<_> = served
        .into_iter()
        .filter_map(|(node, requests)| {
            let (cluster, caller) = (cluster.clone()?, &tunnels?.caller);
            let number = cluster.adopted(session, &node, requests);
            let request = SessionAttach {
                session: session.id(),
                gate: from.to_owned(),
                number: number.as_ref().copied().unwrap_or_default(),
            };
            let call = caller.call::<_, ()>(&node, key, ATTACH, &request, ATTACH_TIMEOUT);
            let session = session.clone();
            Some(async move {
                let attached = match number {
                    Ok(_) => call.await.map(drop),
                    Err(error) => Err(error),
                };
                if let Err(error) = &attached {
                    debug!(session = session.id(), node, %error, "adopted session lost at a node");
                }
                cluster.attached(&session, &node, attached.is_ok());
            })
        })
        .collect();
    async move {
        join_all(calls).await;
    }
}
