//! What a connection does until its session is open: handshake, checks, the hook that opens it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;
use tracing::debug;

use super::{
    close_code::Ending,
    config::OpenHook,
    connection::Connection,
    handshake_check::{Accept, Handshake},
    pending_check::{Pending, PendingCheck, Then, refuse, refuse_open},
    resume_handshake::Offer,
};
use crate::{
    error::{Error, Result, code},
    handshake::Request,
    net::stream::Transport,
    packet::Kind,
    panic::catch_panic,
    session::CloseReason,
    trace::TraceContext,
};

/// The code of a refusal whose check took too long, as of an HTTP gateway.
const CHECK_TIMED_OUT: &str = "504";

impl<T: Transport> Connection<T> {
    /// Ready when no check is under way. Goes on with a client whose check has ended.
    pub(super) fn poll_check(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let Some(pending) = &mut self.check else {
            return Poll::Ready(Ok(()));
        };
        let (transport, decoder) = (&mut self.transport, &mut self.decoder);
        let result = ready!(pending.poll(cx, transport, decoder, &self.handle))?;
        self.now = Instant::now();
        let spent = pending.check.elapsed(self.now);
        self.liveness.extend(spent, self.now);
        let then = pending.then.take();
        self.check = None;
        if self.handle.is_away() {
            // The client has returned on another connection: the check was of this one.
            return Poll::Ready(Err(CloseReason::Client.into()));
        }
        match then {
            Then::Reply(offer) => self.accepted(result, offer)?,
            Then::Open => self.open_or_refuse(result.map(drop))?,
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn shake_hands(&mut self, body: Bytes) -> Result<(), Ending> {
        let request = Request::decode(&body);
        if self.gate.limits.sampling().is_some() {
            self.traced_by = self.client_trace(&request).map(Box::new);
        }
        // Before any check: a client that returns was checked when its session was opened.
        let offer = self
            .resumption
            .read(&request, &self.handle, &self.gate, &body);
        if let Offer::Return = offer {
            return Err(CloseReason::Client.into());
        }
        self.resumption
            .check_required(&self.gate, self.session.remote_addr())?;
        self.check_handshake(request, body, offer)
    }

    /// The client's own span: of the handshake, or else of the upgrade request.
    fn client_trace(&self, request: &Request) -> Option<TraceContext> {
        let text = |field| request.sys.others.get(field).and_then(Value::as_str);
        let given = text("traceparent");
        let handshake = given.and_then(|it| TraceContext::parse(it, text("tracestate")));
        handshake.or_else(|| self.request.as_ref()?.trace())
    }

    /// Checks the handshake of a client that does not return, and answers it.
    pub(super) fn check_handshake(
        &mut self,
        request: Request,
        body: Bytes,
        offer: Offer,
    ) -> Result<(), Ending> {
        self.handle.set_error_flag(request.sys.knows_error_flag());
        if let Some(fault) = &request.unread {
            debug!(
                session = self.session.id(),
                fault, "handshake partly unread"
            );
        }
        let config = &self.gate.config;
        if config.on_handshake.is_none() && config.check_handshake.is_none() {
            self.reply(None, offer);
            return Ok(());
        }
        let handshake = Handshake {
            session: self.session.clone(),
            request,
            body,
            upgrade: self.request.clone(),
            listener: self.listener.clone(),
        };
        let accept = match &config.on_handshake {
            Some(hook) => catch_panic(&self.gate.metrics.panics, "panicked", || hook(&handshake)),
            None => Ok(Accept::new()),
        };
        let Some(check) = &config.check_handshake else {
            return self.accepted(accept, offer);
        };
        let accept = accept.map_err(|error| refuse(&self.handle, error))?;
        let check = check.clone();
        let check = async move { Ok(check(handshake).await?.or(accept)) };
        let timed_out = Error::new(CHECK_TIMED_OUT, "the handshake check timed out");
        self.start_check(check, timed_out, Then::Reply(offer));
        Ok(())
    }

    /// Answers a handshake that was checked.
    fn accepted(&mut self, result: Result<Accept>, offer: Offer) -> Result<(), Ending> {
        let user = result.and_then(|accept| accept.bind_to(&self.session));
        let user = user.map_err(|error| refuse(&self.handle, error))?;
        self.reply(user.as_ref(), offer);
        Ok(())
    }

    /// Queues the handshake reply.
    pub(super) fn reply(&mut self, user: Option<&Value>, offer: Offer) {
        let grant = self
            .resumption
            .grant(offer, &self.session, &self.handle, &self.gate);
        let reply = self.gate.handshake_reply(user, grant.as_ref());
        self.handle.send_control(Kind::Handshake, &reply);
    }

    /// Goes on with a client that has acknowledged the handshake, for the first time on this socket.
    pub(super) fn acknowledged(&mut self) -> Result<(), Ending> {
        self.resumption
            .check_required(&self.gate, self.session.remote_addr())?;
        self.handle.acknowledge();
        self.request = None;
        if self.resumption.is_allowed() {
            self.gate.resumable.confirm(self.session.id());
        }
        // A return gives the client no more time.
        let login = self.gate.limits.login_timeout();
        self.login_by = self.login_by.or(login.map(|timeout| self.now + timeout));
        self.open()
    }

    /// Opens the session, unless it was opened before its client returned.
    fn open(&mut self) -> Result<(), Ending> {
        let hook = self.gate.config.on_session_open.as_ref();
        let Some(hook) = hook.filter(|_| !self.opened) else {
            return Ok(());
        };
        match hook {
            OpenHook::Sync(hook) => {
                let panics = &self.gate.metrics.panics;
                let result = catch_panic(panics, "panicked", || hook(&self.session));
                self.open_or_refuse(result)
            }
            OpenHook::Async(hook) => {
                let opened = hook(self.session.clone());
                let opened = async move { opened.await.map(|()| Accept::new()) };
                let timed_out = Error::new(code::TIMEOUT, "the session did not open in time");
                self.start_check(opened, timed_out, Then::Open);
                Ok(())
            }
        }
    }

    fn open_or_refuse(&mut self, result: Result) -> Result<(), Ending> {
        self.opened = true;
        result.map_err(|error| refuse_open(&self.session, error))
    }

    fn start_check(
        &mut self,
        check: impl Future<Output = Result<Accept>> + Send + 'static,
        timed_out: Error,
        then: Then,
    ) {
        let runtime = self.gate.node.pool().runtime();
        let within = self.gate.limits.check_timeout();
        let check = PendingCheck::start(runtime, check, within, timed_out, self.now);
        self.check = Some(Box::new(Pending { check, then }));
    }
}
