//! A session without a client, for the unit tests of handlers.
//!
//! ```
//! use nano::{Result, Session, mock};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, PartialEq, Debug)]
//! struct Hello { name: String }
//!
//! // A handler like any other.
//! fn hello(session: &Session, name: String) -> Result {
//!     session.push("onHello", &Hello { name: name.clone() })?;
//!     session.respond(&name.len())
//! }
//!
//! let (session, sink) = mock::session();
//! hello(&session.with_request(7), "Ann".to_owned()).unwrap();
//! assert_eq!(sink.push_as::<Hello>("onHello").unwrap(), Hello { name: "Ann".to_owned() });
//! assert_eq!(sink.response(7).unwrap().unwrap(), "3");
//! ```

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::{
    error::{Error, Result, code},
    serialize::{Decode, Json},
    session::{CloseReason, Push, Session, SessionSink},
};

/// A session and the sink that records what is sent to it. Ids count from 1 up, over the whole
/// process.
pub fn session() -> (Session, Arc<MockSink>) {
    static NEXT_ID: AtomicI64 = AtomicI64::new(1);

    let sink = Arc::new(MockSink::default());
    (
        Session::new(NEXT_ID.fetch_add(1, Ordering::Relaxed), sink.clone()),
        sink,
    )
}

/// Records instead of sending. Every request id waits for an answer, once.
#[derive(Debug, Default)]
pub struct MockSink(Mutex<Recorded>);

/// A body, or code and message of an error.
type Answer = Result<Bytes, (String, String)>;

#[derive(Debug, Default)]
struct Recorded {
    pushes: Vec<(String, Bytes)>,
    rpcs: Vec<(String, Bytes)>,
    responses: Vec<(u64, Answer)>,
    closed: Option<CloseReason>,
}

impl MockSink {
    /// All pushes so far: route and body.
    pub fn pushes(&self) -> Vec<(String, Bytes)> {
        self.0.lock().pushes.clone()
    }

    /// The first push with this route, from JSON.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] when there is none, and what JSON says of a body of another type.
    pub fn push_as<M: DeserializeOwned>(&self, route: &str) -> Result<M> {
        let body = self
            .0
            .lock()
            .pushes
            .iter()
            .find(|(pushed, _)| pushed == route)
            .map(|(_, body)| body.clone());
        Json::decode(
            &body.ok_or_else(|| {
                Error::new(code::NOT_FOUND, format!("nothing was pushed to {route}"))
            })?,
        )
    }

    /// What was sent to other services: route and body.
    pub fn rpcs(&self) -> Vec<(String, Bytes)> {
        self.0.lock().rpcs.clone()
    }

    /// The answer to request `id`: a body, or an error reply. `None` while there is none.
    pub fn response(&self, id: u64) -> Option<Result<Bytes>> {
        let recorded = self.0.lock();
        let (_, answer) = recorded
            .responses
            .iter()
            .find(|(answered, _)| *answered == id)?;
        Some(
            answer
                .clone()
                .map_err(|(code, message)| Error::new(code, message)),
        )
    }

    /// Why it was closed, if it was.
    pub fn closed(&self) -> Option<CloseReason> {
        self.0.lock().closed.clone()
    }
}

impl SessionSink for MockSink {
    fn push(&self, push: &Push<'_>) -> Result {
        self.0
            .lock()
            .pushes
            .push((push.route().to_owned(), push.body().clone()));
        Ok(())
    }

    fn respond(&self, request: u64, answer: Result<Bytes>) -> Result {
        let mut recorded = self.0.lock();
        if recorded
            .responses
            .iter()
            .any(|(answered, _)| *answered == request)
        {
            return Err(Error::new(
                code::CONFLICT,
                format!("request {request} is answered already"),
            ));
        }
        let answer = answer.map_err(|error| (error.code().to_owned(), error.message().to_owned()));
        recorded.responses.push((request, answer));
        Ok(())
    }

    fn rpc(&self, _: &Session, route: &str, body: Bytes) -> Result {
        self.0.lock().rpcs.push((route.to_owned(), body));
        Ok(())
    }

    fn close(&self, reason: CloseReason) {
        self.0.lock().closed.get_or_insert(reason);
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
}
