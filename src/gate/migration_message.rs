//! A session on its way to another gate, as a message. No I/O.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    client_state::{ClientState, Requests, Unanswered},
    live_limits::LiveLimits,
    resume::{registry::Secrets, replay::Replay, token::Secret},
};
use crate::{
    channel::{Position, check_name},
    cluster::{
        ChannelPosition, MovedBinding, MovedChannel, MovedRequest, MovedService, MovedValue,
        SessionAdopt, user,
    },
    error::{Error, Result, code},
    resume::Snapshot,
    session::{Session, UserId},
};

/// The method that asks whether a node takes sessions.
pub(super) const READY: &str = "Gate.Ready";
/// The method that asks a gate to go on with a session.
pub(super) const ADOPT: &str = "Gate.Adopt";
/// The method that closes a session that was closed while it moved.
pub(super) const CLOSE: &str = "Gate.Close";
/// The method that lets what is for a session wait, at a node that serves it.
pub(super) const HOLD: &str = "Served.Hold";
/// The method that ends the wait.
pub(super) const RELEASE: &str = "Served.Release";
/// The method that ends it at the next gate.
pub(super) const ATTACH: &str = "Served.Attach";

/// How long a session that has arrived is remembered, at least and at most.
const REMEMBER: Duration = Duration::from_secs(60);
const MAX_REMEMBER: Duration = Duration::from_secs(24 * 60 * 60);

/// What a gate knows of a session beside the client.
pub(super) struct Leaving<'a> {
    pub(super) session: &'a Session,
    pub(super) claim: u64,
    /// The nodes that serve it, and its requests in flight there.
    pub(super) served: Vec<(String, Vec<u64>)>,
    /// Its channels, and up to where it has everything.
    pub(super) channels: Vec<(Arc<str>, Position)>,
    pub(super) secrets: Secrets,
    /// When it must have a user.
    pub(super) login_by: Option<Instant>,
    /// The incarnation of the gate that is to take it.
    pub(super) incarnation: u64,
    /// How long that gate may be asked again.
    pub(super) repeat: Duration,
}

/// What the next gate has read.
pub(super) struct Arrived {
    pub(super) id: i64,
    pub(super) user: Option<UserId>,
    pub(super) claim: u64,
    pub(super) shared: Vec<(String, Bytes)>,
    pub(super) bindings: Vec<(String, String)>,
    pub(super) served: Vec<(String, Vec<u64>)>,
    pub(super) channels: Vec<(Arc<str>, Position)>,
    pub(super) client: ClientState,
    pub(super) secrets: Secrets,
    pub(super) remote: Option<SocketAddr>,
    pub(super) login_by: Option<Instant>,
    /// How long it is to be remembered: its former gate may repeat the call.
    pub(super) remember: Duration,
}

/// Writes a session and its client.
pub(super) fn write(leaving: &Leaving<'_>, client: &ClientState, now: Instant) -> SessionAdopt {
    let session = leaving.session;
    let snapshot = client.replay.as_ref().map(|replay| replay.snapshot());
    let snapshot = snapshot.unwrap_or_default();
    let left = |deadline: Instant| deadline.saturating_duration_since(now).as_millis() as u64;
    let requests = client.in_flight.iter().map(|(id, deadline)| MovedRequest {
        id,
        left_ms: deadline.map(left),
    });
    let shared = session.inner().shared.all().into_iter();
    let bindings = session.inner().bindings.list().into_iter();
    let served = leaving.served.iter().cloned();
    let channels = leaving.channels.iter();
    SessionAdopt {
        session: session.id(),
        user: session.user().as_ref().map(Into::into),
        claim: leaving.claim,
        shared: shared.map(|(key, json)| MovedValue { key, json }).collect(),
        bindings: bindings
            .map(|(service, address)| MovedBinding { service, address })
            .collect(),
        served: served
            .map(|(address, requests)| MovedService { address, requests })
            .collect(),
        requests: requests.collect(),
        received: snapshot.received,
        acknowledged: snapshot.acknowledged,
        first: snapshot.first,
        packets: snapshot.packets,
        error_flag: client.error_flag(),
        secret: Bytes::copy_from_slice(leaving.secrets.current.bytes()),
        pending_secrets: leaving
            .secrets
            .pending
            .iter()
            .map(|secret| Bytes::copy_from_slice(secret.bytes()))
            .collect(),
        remote: session
            .remote_addr()
            .map_or_else(String::new, |remote| remote.to_string()),
        login_ms: leaving.login_by.map(left),
        channels: channels
            .map(|(channel, position)| MovedChannel {
                channel: channel.to_string(),
                position: Some(ChannelPosition {
                    epoch: position.epoch,
                    offset: position.offset,
                }),
            })
            .collect(),
        incarnation: leaving.incarnation,
        repeat_ms: leaving.repeat.as_millis() as u64,
    }
}

/// Reads a session and its client, for the gate of this incarnation.
///
/// # Errors
/// [`code::BAD_REQUEST`] with what is wrong, [`code::NOT_FOUND`] if it is for another incarnation, which
/// may have had the session.
pub(super) fn read(
    message: SessionAdopt,
    incarnation: u64,
    limits: &LiveLimits,
    now: Instant,
) -> Result<Arrived> {
    let wrong = |what: &str| Error::bad_request(format!("a session with an illegal {what}"));
    if message.incarnation != incarnation {
        return Err(Error::new(code::NOT_FOUND, "the gate has started again"));
    }
    if !(1..1 << 53).contains(&message.session) {
        return Err(wrong("id"));
    }
    let user = match &message.user {
        Some(id) => Some(user(Some(id))?),
        None => None,
    };
    let snapshot = Snapshot {
        received: message.received,
        acknowledged: message.acknowledged,
        first: message.first,
        packets: message.packets,
    };
    let replay = Replay::adopted(limits, snapshot).ok_or_else(|| wrong("count of packets"))?;
    let mut requests = Requests::default();
    for request in message.requests {
        let deadline = request
            .left_ms
            .and_then(|left| now.checked_add(Duration::from_millis(left)));
        requests.insert(request.id, deadline, Unanswered::default());
    }
    let current = Secret::of(&message.secret).ok_or_else(|| wrong("secret"))?;
    let pending = message.pending_secrets.iter();
    let pending: Option<_> = pending.map(|secret| Secret::of(secret)).collect();
    let pending = pending.ok_or_else(|| wrong("secret"))?;
    let mut channels = Vec::with_capacity(message.channels.len());
    for MovedChannel { channel, position } in message.channels {
        check_name(&channel)?;
        let ChannelPosition { epoch, offset } = position.unwrap_or_default();
        channels.push((channel.into(), Position::named(epoch, offset)?));
    }
    let served = message.served.into_iter();
    let shared = message.shared.into_iter();
    let bindings = message.bindings.into_iter();
    Ok(Arrived {
        id: message.session,
        user,
        claim: message.claim,
        shared: shared.map(|value| (value.key, value.json)).collect(),
        bindings: bindings
            .map(|binding| (binding.service, binding.address))
            .collect(),
        served: served
            .map(|service| (service.address, service.requests))
            .collect(),
        channels,
        client: ClientState::adopted(message.error_flag, replay, requests),
        secrets: Secrets { current, pending },
        remote: message.remote.parse().ok(),
        login_by: message
            .login_ms
            .and_then(|left| now.checked_add(Duration::from_millis(left))),
        remember: Duration::from_millis(message.repeat_ms).clamp(REMEMBER, MAX_REMEMBER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::SessionAdopt, gate::config::GateConfig};

    fn message() -> SessionAdopt {
        SessionAdopt {
            session: 5,
            received: 3,
            acknowledged: 1,
            first: 2,
            packets: vec![Bytes::from_static(b"\x04\0\0\x03two")],
            secret: Bytes::from_static(&[7; 16]),
            incarnation: 3,
            requests: vec![MovedRequest {
                id: 9,
                left_ms: Some(1000),
            }],
            ..SessionAdopt::default()
        }
    }

    fn read(message: SessionAdopt) -> Result<Arrived> {
        let limits = LiveLimits::new(&GateConfig::default());
        super::read(message, 3, &limits, Instant::now())
    }

    #[test]
    fn a_session_is_read_as_it_was_written() {
        let arrived = read(message()).unwrap();
        let snapshot = arrived.client.replay.as_ref().unwrap().snapshot();
        assert_eq!((snapshot.received, snapshot.acknowledged), (3, 1));
        assert_eq!((snapshot.first, snapshot.packets), (2, message().packets));
        let requests: Vec<_> = arrived.client.in_flight.iter().map(|(id, _)| id).collect();
        assert_eq!(requests, [9]);
        assert!(arrived.client.is_away() && arrived.user.is_none());
    }

    #[test]
    fn a_session_is_remembered_for_as_long_as_its_former_gate_may_bring_it_again() {
        let remember = |repeat_ms| {
            let message = SessionAdopt {
                repeat_ms,
                ..message()
            };
            read(message).unwrap().remember.as_secs()
        };
        let bounds = (remember(0), remember(600_000), remember(u64::MAX));
        assert_eq!(bounds, (60, 600, 24 * 60 * 60));
    }

    #[test]
    fn an_illegal_session_is_refused() {
        let with = |change: fn(&mut SessionAdopt)| {
            let mut message = message();
            change(&mut message);
            read(message).map(drop)
        };
        assert!(with(|_| {}).is_ok());
        let wrong: [fn(&mut SessionAdopt); 12] = [
            |it| it.channels = vec![MovedChannel::default()],
            |it| {
                let position = Some(ChannelPosition {
                    epoch: u64::MAX,
                    offset: 0,
                });
                let channel = "room".to_owned();
                it.channels = vec![MovedChannel { channel, position }];
            },
            |it| it.incarnation = 2,
            |it| it.session = 0,
            |it| it.session = 1 << 53,
            |it| it.user = Some(Default::default()),
            |it| it.secret = Bytes::from_static(b"short"),
            |it| it.pending_secrets = vec![Bytes::from_static(b"short")],
            |it| it.acknowledged = 3,
            |it| it.first = u64::MAX,
            |it| it.packets = vec![Bytes::from_static(b"\x04\0\0\x09two")],
            |it| it.packets = vec![Bytes::from_static(b"\x03\0\0\x00")],
        ];
        for (at, change) in wrong.into_iter().enumerate() {
            assert!(with(change).is_err(), "{at}");
        }
        let other = with(|it| it.incarnation = 2).unwrap_err();
        assert_eq!(other.code(), code::NOT_FOUND, "no answer of that gate");
    }
}
