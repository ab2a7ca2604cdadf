//! A session whose client sits on a gate of Go nano.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{GoPeer, Outgoing, check_size};
use crate::{
    cluster::proto::{PushMessage, ResponseMessage},
    dispatch::Dispatch,
    error::{Error, Result, code},
    message::Message,
    session::{CloseReason, Push, Session, SessionSink},
};

/// A session that this node serves for a gate of Go nano.
#[derive(Clone)]
pub(in crate::cluster) struct GoServed {
    pub(in crate::cluster) session: Session,
    pub(in crate::cluster) sink: Arc<GoRemote>,
}

/// The far end of such a session. Its gate tells neither the uid nor the client's address.
pub(in crate::cluster) struct GoRemote {
    id: i64,
    gate: Arc<GoPeer>,
    dispatch: Arc<Dispatch>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closing: bool,
    requests: VecDeque<u64>,
}

impl GoRemote {
    pub(super) fn new(id: i64, gate: Arc<GoPeer>, dispatch: Arc<Dispatch>) -> Arc<Self> {
        Arc::new(Self {
            id,
            gate,
            dispatch,
            state: Mutex::default(),
        })
    }

    pub(super) fn expect(&self, request: u64) {
        self.state.lock().requests.push_back(request);
    }

    pub(super) fn unanswered(&self) -> usize {
        self.state.lock().requests.len()
    }

    pub(in crate::cluster) fn end(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.requests.clear();
    }

    /// The address of its gate, which goes with every message on its behalf.
    pub(in crate::cluster) fn gate(&self) -> &str {
        &self.gate.address
    }

    fn check_open(&self) -> Result {
        if self.state.lock().closing {
            Err(Error::new(code::CLOSED, "the session is closed"))
        } else {
            Ok(())
        }
    }
}

impl SessionSink for GoRemote {
    fn push(&self, push: &Push<'_>) -> Result {
        push.check()?;
        check_size(push.body().len())?;
        self.check_open()?;
        let message = PushMessage {
            session_id: self.id,
            route: push.route().to_owned(),
            data: push.body().clone(),
        };
        self.gate.send(self.id, Outgoing::Push(message))
    }

    fn respond(&self, request: u64, answer: Result<Bytes>) -> Result {
        {
            let mut state = self.state.lock();
            if state.closing {
                return Err(Error::new(code::CLOSED, "the session is closed"));
            }
            let at = state
                .requests
                .iter()
                .position(|waiting| *waiting == request);
            if at.and_then(|at| state.requests.remove(at)).is_none() {
                return Err(Error::new(
                    code::CONFLICT,
                    format!("request {request} does not wait for an answer"),
                ));
            }
        }
        // Its protocol has no error replies: they are responses with the body of one.
        let answer = answer.and_then(|body| check_size(body.len()).map(|()| body));
        let data = answer.unwrap_or_else(|error| error.to_body());
        self.gate.send(
            self.id,
            Outgoing::Response(ResponseMessage {
                session_id: self.id,
                id: request,
                data,
            }),
        )
    }

    fn rpc(&self, session: &Session, route: &str, body: Bytes) -> Result {
        self.check_open()?;
        self.dispatch.rpc(session, Message::notify(route, body))
    }

    fn close(&self, _: CloseReason) {
        if !std::mem::replace(&mut self.state.lock().closing, true) {
            // A gate that is gone has closed it already.
            let _ = self.gate.send(self.id, Outgoing::CloseSession(self.id));
        }
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
}
