//! What frames of each kind consist of.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::proto::{Frame, Kind};
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
        shard: usize,
        stream: i64,
    ) -> Self {
        let credit = u32::try_from(shard).unwrap_or(u32::MAX);
        Self {
            id: incarnation,
            address: address.to_owned(),
            credit,
            ..Self::of(Kind::Hello, stream)
        }
    }

    pub(in crate::cluster) fn open(
        session: &Session,
        number: u64,
        binds: u32,
        again: bool,
    ) -> Self {
        let address = session
            .remote_addr()
            .map(|address| address.to_string())
            .unwrap_or_default();
        Self {
            id: number,
            credit: binds,
            uid: session.uid(),
            address,
            error: again,
            ..Self::of(Kind::Open, session.id())
        }
    }

    pub(in crate::cluster) fn synced() -> Self {
        Self::of(Kind::Synced, 0)
    }

    /// A message, relayed message or call.
    pub(in crate::cluster) fn message(
        kind: Kind,
        session: i64,
        id: u64,
        route: ByteString,
        body: Bytes,
    ) -> Self {
        Self {
            id,
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
            credit: binds,
            uid: session.uid(),
            ..Self::of(Kind::Bound, session.id())
        }
    }

    pub(in crate::cluster) fn bind(session: i64, uid: i64, binds: u32) -> Self {
        Self {
            credit: binds,
            uid,
            ..Self::of(Kind::Bind, session)
        }
    }

    pub(in crate::cluster) fn closed(session: i64, reason: &CloseReason) -> Self {
        let (label, detail) = reason.parts();
        Self {
            address: label.to_owned(),
            reason: detail.to_owned(),
            ..Self::of(Kind::Closed, session)
        }
    }

    /// What a node that serves the session wants its gate to do.
    pub(in crate::cluster) fn close(session: i64, reason: CloseReason) -> Self {
        match reason {
            CloseReason::Kicked(reason) => Self {
                reason,
                ..Self::of(Kind::Kick, session)
            },
            CloseReason::Closed(reason) => Self {
                reason,
                ..Self::of(Kind::Close, session)
            },
            other => Self {
                reason: other.to_string(),
                ..Self::of(Kind::Close, session)
            },
        }
    }

    pub(in crate::cluster) fn response(session: i64, id: u64, answer: Result<Bytes>) -> Self {
        Self {
            id,
            ..Self::of(Kind::Response, session)
        }
        .with(answer)
    }

    pub(in crate::cluster) fn reply(id: u64, answer: Result<Bytes>) -> Self {
        Self {
            id,
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

    pub(in crate::cluster) fn leaving() -> Self {
        Self::of(Kind::Leaving, 0)
    }

    pub(in crate::cluster) fn alive() -> Self {
        Self::of(Kind::Alive, 0)
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

    pub(in crate::cluster) fn gone(session: i64, opened: u64) -> Self {
        Self {
            id: opened,
            ..Self::of(Kind::Gone, session)
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
            + self.address.len()
            + self.reason.len()
    }

    /// Whether somebody waits for an answer to it who has been told that there is none once the
    /// stream has broken.
    pub(super) fn is_question(&self) -> bool {
        match self.kind() {
            Kind::Message => self.id != 0,
            Kind::Call | Kind::RelayCall => true,
            _ => false,
        }
    }

    /// Whether somebody waits for it.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self.kind(), Kind::Response | Kind::Reply)
    }
}
