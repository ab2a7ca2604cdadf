//! The return to a session after a lost connection: no state of the connection's task.

use std::{
    collections::hash_map::RandomState,
    future::poll_fn,
    hash::{BuildHasher, Hasher},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use nano_protocol::{
    Error, Result, code,
    handshake::{Reply, Request},
    packet::Decoder,
    resume::{Ask, Endpoint, Grant, Limits, Lost},
};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::{
    address::Address,
    dial::{self, Upgrade},
    disconnect::DisconnectReason,
    handshake,
    shared::Shared,
    transport::Transport,
};

/// What is kept of unacknowledged messages, in bytes; then senders wait.
const KEPT_BYTES: usize = 256 * 1024;
/// What is kept of unacknowledged messages.
const KEPT_MESSAGES: usize = 16 * 1024;
/// The pause before the first attempt to return, on average.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between attempts, on average.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What happens to a client that resumes its session; see
/// [`Builder::on_event`](crate::Builder::on_event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The connection is lost, for this reason. Requests in flight wait for the client's return.
    Reconnecting(DisconnectReason),
    /// The client is back in its session, and nothing was lost.
    Resumed,
    /// The session is gone, and the client is in a new one: log in again. Requests in flight have
    /// failed with [`code::CLOSED`].
    Lost(Lost),
}

/// A callback for events.
pub(crate) type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

/// Opens connections to one server.
pub(crate) struct Dialer {
    pub(crate) address: Address,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) server_name: Option<String>,
    pub(crate) upgrade: Upgrade,
    pub(crate) max_packet: usize,
    pub(crate) request: Request,
}

/// A connection whose handshake is accepted and not acknowledged.
pub(crate) struct Opened {
    pub(crate) transport: Transport,
    pub(crate) decoder: Decoder,
    pub(crate) early: Vec<Bytes>,
    pub(crate) reply: Reply,
}

impl Dialer {
    /// Opens a connection; `ask` is about the session.
    ///
    /// # Errors
    /// See [`Builder::connect`](crate::Builder::connect).
    pub(crate) async fn open(&self, ask: Option<&Ask>) -> Result<Opened> {
        let mut transport = dial::dial(
            &self.address,
            self.ca_file.clone(),
            self.server_name.clone(),
            &self.upgrade,
            self.max_packet,
        )
        .await?;
        let request = match ask {
            Some(ask) => self.request.clone().with_resume(ask),
            None => self.request.clone(),
        };
        let mut decoder = Decoder::new(self.max_packet);
        let mut early = Vec::new();
        let reply = handshake::exchange(&mut transport, &mut decoder, &request, &mut early).await?;
        Ok(Opened {
            transport,
            decoder,
            early,
            reply,
        })
    }
}

/// A session that can be resumed, as its client keeps it.
pub(crate) struct Resumption {
    dialer: Dialer,
    connect_timeout: Duration,
    on_event: Option<OnEvent>,
    pub(crate) endpoint: Endpoint,
    token: String,
    window: Duration,
}

/// The connection on which a client has returned, and what it has to send first.
pub(crate) struct Returned {
    pub(crate) opened: Opened,
    pub(crate) replay: Vec<Bytes>,
    /// Whether the session can be resumed again.
    pub(crate) resumable: bool,
}

fn endpoint() -> Endpoint {
    Endpoint::new(Limits::new(KEPT_BYTES, KEPT_MESSAGES))
}

impl Resumption {
    pub(crate) fn new(
        dialer: Dialer,
        connect_timeout: Duration,
        on_event: Option<OnEvent>,
        grant: &Grant,
    ) -> Self {
        Self {
            dialer,
            connect_timeout,
            on_event,
            endpoint: endpoint(),
            token: grant.token.clone(),
            window: grant.window,
        }
    }

    /// Returns to the session after its connection was lost for this reason, or opens a new one if
    /// it is gone. Tries for as long as the server keeps the session.
    ///
    /// # Errors
    /// Why the client ends instead: the loss, a refusal, or a [`close`](Shared::close) meanwhile.
    pub(crate) async fn resume(
        &mut self,
        reason: DisconnectReason,
        shared: &Shared,
    ) -> Result<Returned, DisconnectReason> {
        let lost = matches!(
            reason,
            DisconnectReason::Server
                | DisconnectReason::Broken(_)
                | DisconnectReason::HeartbeatTimeout
        );
        if !lost {
            return Err(reason);
        }
        self.tell(Event::Reconnecting(reason.clone()));
        let opened = {
            let closing = pin!(closing(shared));
            let attempts = pin!(self.attempts(reason));
            match select(attempts, closing).await {
                Either::Left((opened, _)) => opened?,
                Either::Right((reason, _)) => return Err(reason),
            }
        };
        self.accept(opened, shared)
    }

    async fn attempts(&self, reason: DisconnectReason) -> Result<Opened, DisconnectReason> {
        let until = Instant::now() + self.window;
        let ask = Ask::Return {
            token: self.token.clone(),
            received: Some(self.endpoint.received()),
        };
        let mut pause = FIRST_PAUSE;
        loop {
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let attempt = timeout(self.connect_timeout, self.dialer.open(Some(&ask))).await;
            match attempt {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) if !is_temporary(&error) => {
                    return Err(DisconnectReason::Broken(format!("cannot return: {error}")));
                }
                Ok(Err(error)) => debug!(%error, "return failed"),
                Err(_) => debug!("return timed out"),
            }
            if until <= Instant::now() {
                self.tell(Event::Lost(Lost::Expired));
                return Err(reason);
            }
        }
    }

    fn accept(&mut self, opened: Opened, shared: &Shared) -> Result<Returned, DisconnectReason> {
        let grant = opened.reply.resume.clone();
        let resumable = grant.is_some();
        let (received, lost) = match grant {
            Some(Grant {
                token,
                window,
                received,
                lost,
                ..
            }) => {
                (self.token, self.window) = (token, window);
                (received, lost)
            }
            None => (0, Some(Lost::Unsupported)),
        };
        let Some(lost) = lost else {
            let replay = self.endpoint.resume(received).map_err(|lost| {
                DisconnectReason::Protocol(format!("invalid count in the handshake reply: {lost}"))
            })?;
            self.tell(Event::Resumed);
            return Ok(Returned {
                opened,
                replay,
                resumable,
            });
        };
        if opened.reply.dictionary != shared.reply().dictionary {
            // Routes are encoded with the dictionary of the first reply.
            return Err(DisconnectReason::Broken(format!(
                "session lost: {lost}, and the server has another dictionary"
            )));
        }
        self.endpoint = endpoint();
        shared.lose(lost);
        self.tell(Event::Lost(lost));
        Ok(Returned {
            opened,
            replay: Vec::new(),
            resumable,
        })
    }

    fn tell(&self, event: Event) {
        debug!(?event, "session");
        if let Some(on_event) = &self.on_event {
            on_event(event);
        }
    }
}

/// Whether another attempt may succeed.
fn is_temporary(error: &Error) -> bool {
    [code::UNAVAILABLE, code::CLOSED, code::TIMEOUT].contains(&error.code())
}

/// Waits until the application closes the client.
async fn closing(shared: &Shared) -> DisconnectReason {
    poll_fn(|cx| match shared.register(cx.waker()) {
        Err(reason) => Poll::Ready(reason),
        Ok(()) => Poll::Pending,
    })
    .await
}

/// Between a half and one and a half of a pause, so that the clients of a server that went away do
/// not return all at once.
fn jittered(pause: Duration) -> Duration {
    // Each state has keys of its own, from the system's random numbers.
    let random = RandomState::new().build_hasher().finish() % 1000;
    pause / 2 + pause * u32::try_from(random).unwrap_or_default() / 1000
}
