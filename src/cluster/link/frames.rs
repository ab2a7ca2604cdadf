//! What frames of each kind consist of.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::proto::{Close, Frame, Hello, Kind, SessionOpen};
use crate::{
    error::{Error, Result, code},
    packet,
    session::{CloseReason, Session},
};

/// The longest body: what a client's packet can carry.
pub(in crate::cluster) const MAX_BODY: usize = packet::MAX_BODY;

/// # Errors
/// [`code::TOO_LARGE`]: no link takes it.
pub(in crate::cluster) fn check_size(body: usize) -> Result {
    if body <= MAX_BODY {
        return Ok(());
    }
    Err(Error::new(
        code::TOO_LARGE,
        format!("a body of {body} bytes, over the limit of {MAX_BODY}"),
    ))
}

impl Frame {
    fn of(kind: Kind, session: i64) -> Self {
        Self {
            kind: kind.into(),
            session,
            ..Self::default()
        }
    }

    pub(in crate::cluster) fn hello(
        address: &str,
        incarnation: u64,
        stream_index: usize,
        stream: u64,
    ) -> Self {
        let hello = Hello {
            address: address.to_owned(),
            incarnation,
            stream_index: u32::try_from(stream_index).unwrap_or(u32::MAX),
            stream,
        };
        Self {
            hello: Some(Box::new(hello)),
            ..Self::of(Kind::Hello, 0)
        }
    }

    pub(in crate::cluster) fn session_open(
        session: &Session,
        number: u64,
        binds: u32,
        resumed: bool,
    ) -> Self {
        let client_address = session
            .remote_addr()
            .map(|address| address.to_string())
            .unwrap_or_default();
        let open = SessionOpen {
            client_address,
            number,
            resumed,
        };
        Self {
            binds,
            uid: session.uid(),
            open: Some(Box::new(open)),
            ..Self::of(Kind::SessionOpen, session.id())
        }
    }

    pub(in crate::cluster) fn resync_done() -> Self {
        Self::of(Kind::ResyncDone, 0)
    }

    /// A message, relayed message or call.
    pub(in crate::cluster) fn message(
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

    pub(in crate::cluster) fn until(self, deadline: Option<Instant>) -> Self {
        self.within(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())))
    }

    pub(in crate::cluster) fn within(mut self, timeout: Option<Duration>) -> Self {
        if let Some(timeout) = timeout {
            self.timeout_ms = u32::try_from(timeout.as_millis())
                .unwrap_or(u32::MAX)
                .max(1);
        }
        self
    }

    /// How long its sender waits.
    pub(in crate::cluster) fn timeout(&self) -> Option<Duration> {
        (self.timeout_ms != 0).then(|| Duration::from_millis(self.timeout_ms.into()))
    }

    pub(in crate::cluster) fn bound(session: &Session, binds: u32) -> Self {
        Self {
            binds,
            uid: session.uid(),
            ..Self::of(Kind::Bound, session.id())
        }
    }

    pub(in crate::cluster) fn bind(session: i64, uid: i64, binds: u32) -> Self {
        Self {
            binds,
            uid,
            ..Self::of(Kind::Bind, session)
        }
    }

    pub(in crate::cluster) fn session_closed(session: i64, reason: &CloseReason) -> Self {
        let (label, detail) = reason.parts();
        Self::of(Kind::SessionClosed, session).because(label, detail.to_owned())
    }

    /// Asks the gate of a session to close its client's connection.
    pub(in crate::cluster) fn close(session: i64, reason: CloseReason) -> Self {
        match reason {
            CloseReason::Kicked(reason) => Self::of(Kind::Kick, session).because("", reason),
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

    /// Why a session or a connection closes; empty where the frame does not say.
    pub(in crate::cluster) fn take_close(&mut self) -> Close {
        self.close.take().map(|close| *close).unwrap_or_default()
    }

    pub(in crate::cluster) fn response(session: i64, request: u64, answer: Result<Bytes>) -> Self {
        Self {
            request,
            ..Self::of(Kind::Response, session)
        }
        .with(answer)
    }

    pub(in crate::cluster) fn reply(request: u64, answer: Result<Bytes>) -> Self {
        Self {
            request,
            ..Self::of(Kind::Reply, 0)
        }
        .with(answer)
    }

    fn with(mut self, answer: Result<Bytes>) -> Self {
        let fits = |body: Bytes| check_size(body.len()).map(|()| body);
        let answer = answer.and_then(fits).map_err(|error| error.to_body());
        self.error = answer.is_err();
        self.body =
            answer.unwrap_or_else(|body| fits(body).unwrap_or_else(|error| error.to_body()));
        self
    }

    pub(in crate::cluster) fn push(
        session: i64,
        sessions: Vec<i64>,
        route: &str,
        body: Bytes,
    ) -> Self {
        Self {
            sessions,
            route: Bytes::copy_from_slice(route.as_bytes()),
            body,
            ..Self::of(Kind::Push, session)
        }
    }

    pub(in crate::cluster) fn goaway() -> Self {
        Self::of(Kind::Goaway, 0)
    }

    pub(in crate::cluster) fn keepalive() -> Self {
        Self::of(Kind::Keepalive, 0)
    }

    pub(in crate::cluster) fn drained() -> Self {
        Self::of(Kind::Drained, 0)
    }

    pub(in crate::cluster) fn credit(session: i64, credit: u32) -> Self {
        Self {
            credit,
            ..Self::of(Kind::Credit, session)
        }
    }

    pub(in crate::cluster) fn session_unknown(session: i64, opened: u64) -> Self {
        Self {
            opened,
            ..Self::of(Kind::SessionUnknown, session)
        }
    }

    /// The route, as a slice of what was read.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub(in crate::cluster) fn take_route(&mut self) -> Result<ByteString> {
        let route = std::mem::take(&mut self.route);
        ByteString::try_from(route)
            .map_err(|_| Error::new(code::BAD_REQUEST, "a route that is not UTF-8"))
    }

    /// What it answers.
    pub(in crate::cluster) fn into_answer(self) -> Result<Bytes> {
        if self.error {
            Err(Error::from_body(&self.body))
        } else {
            Ok(self.body)
        }
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        48 + self.route.len()
            + self.body.len()
            + self.sessions.len() * 8
            + self.close.as_ref().map_or(0, |close| close.detail.len())
    }

    /// Whether somebody waits for an answer to it who has been told that there is none once the
    /// stream has broken.
    pub(super) fn is_question(&self) -> bool {
        match self.kind() {
            Kind::Message => self.request != 0,
            Kind::Call | Kind::RelayCall => true,
            _ => false,
        }
    }

    /// Whether somebody waits for it.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self.kind(), Kind::Response | Kind::Reply)
    }
}
