//! Frames: one constructor for each kind, and what a receiver takes out of them.

use std::{mem, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    proto::{self, Close, Frame, Hello, Kind, SessionOpen, Share, SharedValue, User},
    session::LinkedSession,
};
use crate::{
    error::{Error, Result, code},
    kick::Kick,
    packet,
    session::{CloseReason, UserId},
    trace::TraceContext,
};

/// The longest body: what a client's packet can carry.
const MAX_BODY: usize = packet::MAX_BODY;

/// Checks that a body fits into a frame.
///
/// # Errors
/// [`code::TOO_LARGE`].
pub(super) fn check_size(body: usize) -> Result {
    if body <= MAX_BODY {
        return Ok(());
    }
    Err(Error::new(
        code::TOO_LARGE,
        format!("a body of {body} bytes, over the limit of {MAX_BODY}"),
    ))
}

impl Frame {
    pub(super) fn of(kind: Kind, session: i64) -> Self {
        Self {
            kind: kind.into(),
            session,
            ..Self::default()
        }
    }

    pub(super) fn hello(
        address: &str,
        incarnation: u64,
        epoch: u64,
        stream_index: usize,
        stream: u64,
    ) -> Self {
        let hello = Hello {
            address: address.to_owned(),
            incarnation,
            stream_index: u32::try_from(stream_index).unwrap_or(u32::MAX),
            stream,
            epoch,
        };
        Self {
            hello: Some(Box::new(hello)),
            ..Self::of(Kind::Hello, 0)
        }
    }

    pub(super) fn session_open(
        session: &impl LinkedSession,
        number: u64,
        binds: u32,
        resumed: bool,
    ) -> Self {
        let open = SessionOpen {
            client_address: session.client_address(),
            number,
            resumed,
        };
        Self {
            binds,
            open: Some(Box::new(open)),
            share: all_values(session),
            ..Self::of(Kind::SessionOpen, session.id())
        }
        .with_user(session.user().as_ref())
    }

    pub(super) fn resync_done() -> Self {
        Self::of(Kind::ResyncDone, 0)
    }

    /// A MESSAGE, RPC, RPC_VIA_GATE, CALL_VIA_GATE or CALL; `request` is 0 for one without an answer.
    pub(super) fn message(
        kind: Kind,
        session: i64,
        request: u64,
        route: ByteString,
        body: Bytes,
    ) -> Self {
        Self {
            request,
            route: route.into_bytes(),
            body,
            ..Self::of(kind, session)
        }
    }

    pub(super) fn with_target(mut self, address: Option<String>) -> Self {
        self.target = address.unwrap_or_default();
        self
    }

    /// The address of the member a CALL_VIA_GATE is for; `None` for any that has the service.
    pub(super) fn take_target(&mut self) -> Option<String> {
        let target = std::mem::take(&mut self.target);
        (!target.is_empty()).then_some(target)
    }

    /// Makes the frame part of a trace, if there is one.
    pub(super) fn with_trace(mut self, context: Option<&TraceContext>) -> Self {
        self.trace = context.map(|context| {
            Box::new(proto::Trace {
                trace_id: Bytes::copy_from_slice(&context.trace_id()),
                span_id: Bytes::copy_from_slice(&context.span_id()),
                state: context.tracestate().unwrap_or_default().to_owned(),
            })
        });
        self
    }

    /// The trace that the frame is part of. One that is not valid is ignored.
    pub(super) fn take_trace(&mut self) -> Option<TraceContext> {
        let trace = self.trace.take()?;
        let (trace_id, span_id) = (trace.trace_id[..].try_into(), trace.span_id[..].try_into());
        let context = TraceContext::new(trace_id.ok()?, span_id.ok()?, true)?;
        Some(context.with_state(&trace.state))
    }

    pub(super) fn cancel(request: u64) -> Self {
        Self {
            request,
            ..Self::of(Kind::Cancel, 0)
        }
    }

    pub(super) fn until(self, deadline: Option<Instant>) -> Self {
        self.within(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())))
    }

    pub(super) fn within(mut self, timeout: Option<Duration>) -> Self {
        if let Some(timeout) = timeout {
            self.timeout_ms = u32::try_from(timeout.as_millis())
                .unwrap_or(u32::MAX)
                .max(1);
        }
        self
    }

    /// For how long the sender waits for the answer; `None` for ever.
    pub(super) fn timeout(&self) -> Option<Duration> {
        (self.timeout_ms != 0).then(|| Duration::from_millis(self.timeout_ms.into()))
    }

    pub(super) fn bound(session: &impl LinkedSession, binds: u32) -> Self {
        Self {
            binds,
            ..Self::of(Kind::Bound, session.id())
        }
        .with_user(session.user().as_ref())
    }

    pub(super) fn bind(session: i64, user: Option<&UserId>, binds: u32) -> Self {
        Self {
            binds,
            ..Self::of(Kind::Bind, session)
        }
        .with_user(user)
    }

    pub(super) fn with_user(mut self, user: Option<&UserId>) -> Self {
        let (number, text) = UserId::parts(user);
        self.uid = number;
        self.user = (!text.is_empty()).then(|| {
            Box::new(User {
                text: text.to_owned(),
            })
        });
        self
    }

    /// The user of a SESSION_OPEN, BIND or BOUND, and the first one of a USER_PUSH.
    pub(super) fn user_id(&self) -> Option<UserId> {
        let text = self.user.as_ref().map_or("", |user| &user.text);
        UserId::of_parts(self.uid, text)
    }

    /// Binds a service of the session to an address, or to none.
    pub(super) fn route(session: i64, service: &str, address: Option<&str>, binds: u32) -> Self {
        Self {
            binds,
            route: Bytes::copy_from_slice(service.as_bytes()),
            body: Bytes::copy_from_slice(address.unwrap_or_default().as_bytes()),
            ..Self::of(Kind::Route, session)
        }
    }

    /// The gate's value under a key; with `None`, all of them.
    pub(super) fn shared(session: &impl LinkedSession, key: Option<&str>, binds: u32) -> Self {
        let share = key.map(|key| one_value(session, key));
        Self {
            binds,
            share: share.or_else(|| all_values(session)),
            ..Self::of(Kind::Shared, session.id())
        }
    }

    /// Changes a value at the gate to that of this node.
    pub(super) fn share(session: &impl LinkedSession, key: &str, binds: u32) -> Self {
        Self {
            binds,
            share: Some(one_value(session, key)),
            ..Self::of(Kind::Share, session.id())
        }
    }

    pub(super) fn session_closed(session: i64, reason: &CloseReason) -> Self {
        let (label, detail) = reason.parts();
        let frame = Self::of(Kind::SessionClosed, session).because(label, detail.to_owned());
        match reason {
            CloseReason::KickedWith(kick) => frame.with_kick(kick),
            _ => frame,
        }
    }

    /// Asks the gate of a session to close its client's connection.
    pub(super) fn close(session: i64, reason: CloseReason) -> Self {
        match reason {
            CloseReason::Kicked(reason) => Self::of(Kind::Kick, session).because("", reason),
            CloseReason::KickedWith(kick) => Self::of(Kind::Kick, session).with_kick(&kick),
            CloseReason::Closed(reason) => Self::of(Kind::Close, session).because("", reason),
            other => Self::of(Kind::Close, session).because("", other.to_string()),
        }
    }

    fn because(self, reason: &str, detail: String) -> Self {
        let close = Close {
            reason: reason.to_owned(),
            detail,
        };
        Self {
            close: Some(Box::new(close)),
            ..self
        }
    }

    /// Adds a kick with more than a reason.
    fn with_kick(mut self, kick: &Kick) -> Self {
        self.body = kick.encode().into();
        self
    }

    /// Takes the kick, if it has more than a reason.
    pub(super) fn take_kick(&mut self) -> Option<Kick> {
        let body = mem::take(&mut self.body);
        (!body.is_empty()).then(|| Kick::decode(&body))
    }

    /// Why a session or a connection closes; empty where the frame does not say.
    pub(super) fn take_close(&mut self) -> Close {
        self.close.take().map(|close| *close).unwrap_or_default()
    }

    pub(super) fn response(session: i64, request: u64, answer: Result<Bytes>) -> Self {
        Self {
            request,
            ..Self::of(Kind::Response, session)
        }
        .with(answer, Error::to_body)
    }

    pub(super) fn reply(request: u64, answer: Result<Bytes>) -> Self {
        Self {
            request,
            ..Self::of(Kind::Reply, 0)
        }
        // The caller reads it, whatever format the handler answers clients in.
        .with(answer, Error::to_json)
    }

    fn with(mut self, answer: Result<Bytes>, encode: fn(&Error) -> Bytes) -> Self {
        let fits = |body: Bytes| check_size(body.len()).map(|()| body);
        let answer = answer.and_then(fits).map_err(|error| encode(&error));
        self.error = answer.is_err();
        self.body = answer.unwrap_or_else(|body| fits(body).unwrap_or_else(|error| encode(&error)));
        self
    }

    pub(super) fn push(session: i64, sessions: Vec<i64>, route: &str, body: Bytes) -> Self {
        Self {
            sessions,
            route: Bytes::copy_from_slice(route.as_bytes()),
            body,
            ..Self::of(Kind::Push, session)
        }
    }

    pub(super) fn goaway() -> Self {
        Self::of(Kind::Goaway, 0)
    }

    pub(super) fn cordon() -> Self {
        Self::of(Kind::Cordon, 0)
    }

    /// Answers the PING of this number; 0 for one that is not timed.
    pub(super) fn keepalive(ping: u64) -> Self {
        Self {
            request: ping,
            ..Self::of(Kind::Keepalive, 0)
        }
    }

    /// Asks for a KEEPALIVE of the same number; 0 for any sign of life.
    pub(super) fn ping(number: u64) -> Self {
        Self {
            request: number,
            ..Self::of(Kind::Ping, 0)
        }
    }

    pub(super) fn idle() -> Self {
        Self::of(Kind::Idle, 0)
    }

    /// Whether it only shows that its sender is alive.
    fn is_sign_of_life(&self) -> bool {
        matches!(self.kind(), Kind::Keepalive | Kind::Ping | Kind::Idle)
    }

    pub(super) fn stream_lost(stream: u64) -> Self {
        Self {
            stream,
            ..Self::of(Kind::StreamLost, 0)
        }
    }

    pub(super) fn drained() -> Self {
        Self::of(Kind::Drained, 0)
    }

    pub(super) fn credit(session: i64, credit: u32) -> Self {
        Self {
            credit,
            ..Self::of(Kind::Credit, session)
        }
    }

    pub(super) fn session_unknown(session: i64, opened: u64) -> Self {
        Self {
            opened,
            ..Self::of(Kind::SessionUnknown, session)
        }
    }

    /// Takes the route, as a slice of what was read.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] if it is not UTF-8.
    pub(super) fn take_route(&mut self) -> Result<ByteString> {
        let route = std::mem::take(&mut self.route);
        ByteString::try_from(route)
            .map_err(|_| Error::new(code::BAD_REQUEST, "a route that is not UTF-8"))
    }

    /// The body, or the error, of a RESPONSE or REPLY.
    pub(super) fn into_answer(self) -> Result<Bytes> {
        let kind = self.kind();
        if self.error {
            let error = Error::from_body(&self.body);
            // A client gets the bytes that the handler's node has encoded.
            Err(match kind {
                Kind::Response => error.with_body(self.body),
                _ => error,
            })
        } else {
            Ok(self.body)
        }
    }

    /// The bytes it takes in a queue, about.
    pub(super) fn weight(&self) -> usize {
        48 + self.route.len()
            + self.body.len()
            + self.sessions.len() * 8
            + self.close.as_ref().map_or(0, |close| close.detail.len())
            + self.share.as_ref().map_or(0, |share| {
                let values = share.values.iter();
                values.map(|it| 16 + it.key.len() + it.value.len()).sum()
            })
            + self
                .trace
                .as_ref()
                .map_or(0, |trace| 48 + trace.state.len())
            + self.more.as_ref().map_or(0, |more| {
                more.uids.len() * 8 + more.texts.iter().map(|text| 24 + text.len()).sum::<usize>()
            })
            + self
                .missed
                .as_ref()
                .map_or(0, |missed| missed.numbers.len() * 8)
    }

    /// Whether the sender is failed with UNAVAILABLE when the stream breaks, so that the frame must
    /// not be sent on the next one: a request, a CANCEL of one, or a push to users.
    pub(super) fn is_request(&self) -> bool {
        match self.kind() {
            Kind::Message | Kind::NodeCall => self.request != 0,
            Kind::Call | Kind::CallViaGate | Kind::Cancel | Kind::UserPush => true,
            _ => false,
        }
    }

    /// Whether the receiver fails the request by itself when the stream breaks.
    pub(super) fn is_answer(&self) -> bool {
        matches!(
            self.kind(),
            Kind::Response | Kind::Reply | Kind::UsersPushed
        )
    }
}

/// Whether a batch carries more than a sign of life, which is sent alone.
pub(super) fn is_traffic(batch: &[Frame]) -> bool {
    match batch {
        [] => false,
        [frame] => !frame.is_sign_of_life(),
        _ => true,
    }
}

/// All shared values of a session; `None` if there are none.
fn all_values(session: &impl LinkedSession) -> Option<Box<Share>> {
    let values = session.shared().all();
    (!values.is_empty()).then(|| {
        let values = values.into_iter();
        Box::new(Share {
            values: values
                .map(|(key, value)| SharedValue { key, value })
                .collect(),
            all: true,
        })
    })
}

fn one_value(session: &impl LinkedSession, key: &str) -> Box<Share> {
    let value = SharedValue {
        key: key.to_owned(),
        value: session.shared().get(key).unwrap_or_default(),
    };
    Box::new(Share {
        values: vec![value],
        all: false,
    })
}
