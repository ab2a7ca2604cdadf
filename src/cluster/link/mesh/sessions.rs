//! Sessions of gates, and of the nodes that serve them.

use bytes::Bytes;

use super::{
    super::{
        held::Held,
        proto::{Frame, Kind},
        sender::Blocked,
        state::LinkState,
        whereabouts::Destination,
    },
    Mesh, Out, Place, Served, address, unavailable,
};
use crate::{
    error::{Error, Result, code},
    session::{CloseReason, Session},
};

/// Sessions of a gate.
impl Mesh {
    /// Sends a message of a session to a node that serves it.
    ///
    /// # Errors
    /// As `LinkState::message`.
    pub(crate) fn message(
        &mut self,
        (at, to): (usize, usize),
        session: &Session,
        request: u64,
        body: Bytes,
    ) -> Result {
        let mut sent = Err(unavailable());
        self.input((at, to), |state, _| {
            let frame =
                |body| Frame::message(Kind::Message, session.id(), request, "S.M".into(), body);
            sent = match state.message(session, body, frame) {
                Ok(_) => Ok(()),
                Err(Blocked::Refused(error)) => Err(error),
                Err(Blocked::Full(_) | Blocked::Draining(_)) => Err(unavailable()),
            };
        });
        sent
    }

    /// The nodes that serve a session, and its requests in flight there.
    pub(crate) fn serving(&self, at: usize, session: i64) -> Vec<(usize, Vec<u64>)> {
        let links = self.links.range((at, 0)..(at + 1, 0));
        let serving = links.filter_map(|((_, peer), link)| {
            let requests = link.state.requests_of(session)?;
            Some((*peer, requests))
        });
        serving.collect()
    }

    /// Another gate has the session now. It `ends` at a node that has not been attached.
    pub(crate) fn moved(&mut self, at: usize, session: i64, ends: bool) {
        for peer in 0..self.nodes.len() {
            self.input((at, peer), |state, _| match ends {
                true => drop(state.session_moved(session)),
                false => drop(state.sender.windows.remove(&session)),
            });
        }
    }

    /// This gate goes on with a session that a node serves for another gate. Returns the number of its
    /// opening.
    pub(crate) fn adopted(
        &mut self,
        (at, peer): (usize, usize),
        session: &Session,
        requests: Vec<u64>,
    ) -> Result<u64> {
        let mut number = Err(unavailable());
        self.input((at, peer), |state, _| {
            number = Ok(state.session_adopted(session, requests));
        });
        number
    }

    pub(crate) fn attached(&mut self, end: (usize, usize), session: &Session, attached: bool) {
        self.input(end, |state, effects| {
            state.session_attached(session, attached, effects);
        });
    }

    /// The session has ended at its gate.
    pub(crate) fn closed(&mut self, at: usize, session: &Session, reason: &CloseReason) {
        for peer in 0..self.nodes.len() {
            self.input((at, peer), |state, _| {
                drop(state.session_closed(session, reason, false));
            });
        }
    }
}

/// Sessions that a node serves, as `ServedSessions` and `RemoteSession` have it.
impl Mesh {
    pub(crate) fn hold(&mut self, (at, from): (usize, usize), id: i64, to: &str) -> Result {
        let mut held = None;
        self.input((at, from), |state, _| held = state.hold(id, to));
        let session = held.ok_or_else(|| not_served(id))?;
        let served = self.served_of(at, &session).unwrap();
        served.whereabouts.hold();
        Ok(())
    }

    pub(crate) fn release(&mut self, (at, from): (usize, usize), id: i64) -> Result {
        let mut released = None;
        self.input((at, from), |state, _| released = state.release(id));
        let (session, key) = released.ok_or_else(|| not_served(id))?;
        let served = self.served_of(at, &session).unwrap();
        let items = served.whereabouts.settle(None);
        self.input((at, from), |state, _| {
            drop(state.send_held(&session, key, items));
        });
        Ok(())
    }

    /// The gate `next` goes on with a session of the gate `former`. What has waited is dropped unless it
    /// `keeps` that.
    pub(crate) fn attach(
        &mut self,
        (at, next, former): (usize, usize, usize),
        id: i64,
        number: u64,
        keeps: bool,
    ) -> Result {
        for gate in [former, next] {
            if !self.links.contains_key(&(at, gate)) {
                return Err(Error::new(code::NOT_FOUND, "no peer"));
            }
        }
        let mut serves = false;
        self.input((at, next), |state, _| serves = state.serves(id));
        if serves {
            return Ok(());
        }
        let (to, mut taken) = (address(next), None);
        self.input((at, former), |state, _| taken = state.take_held(id, &to));
        let taken = taken.ok_or_else(|| not_served(id))?;
        let session = taken.session().clone();
        let mut key = None;
        self.input((at, next), |state, _| key = state.adopt(taken, number));
        let Some(key) = key else {
            self.ended(at, session);
            return Err(not_served(id));
        };
        let served = self.served_of(at, &session).unwrap();
        let place = Place { gate: next, key };
        let mut items = served.whereabouts.settle(Some(place));
        if !keeps {
            items.clear();
        }
        self.input((at, next), |state, _| {
            drop(state.send_held(&session, key, items));
        });
        Ok(())
    }

    /// # Errors
    /// The session has ended.
    pub(crate) fn push(&mut self, at: usize, session: &Session, body: Bytes) -> Result {
        let frame = Frame::push(session.id(), Vec::new(), "on", body);
        let attempt = frame.clone();
        self.send(
            (at, session),
            move |state, id, key| state.push(id, key, attempt).map(drop),
            |held| held.push(frame),
        )
    }

    /// # Errors
    /// The session has ended, or the request is not in flight.
    pub(crate) fn respond(&mut self, at: usize, session: &Session, request: u64) -> Result {
        self.send(
            (at, session),
            move |state, id, key| {
                state
                    .respond(id, key, request, || Ok(Bytes::new()))
                    .map(drop)
            },
            |held| held.respond(request, || Ok(Bytes::new())),
        )
    }

    /// A handler is done with a message.
    pub(crate) fn finished(&mut self, at: usize, session: &Session) {
        let Some(served) = self.served_of(at, session) else {
            return;
        };
        let Place { gate, key } = *served.whereabouts.place().unwrap_or(&served.first);
        self.input((at, gate), |state, _| {
            drop(state.finished(session.id(), key));
        });
    }

    /// Asks the gate to close the session.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn close(&mut self, at: usize, session: &Session) -> Result {
        let reason = || CloseReason::Kicked("out".to_owned());
        self.send(
            (at, session),
            move |state, id, key| state.close_session(id, key, reason()).map(drop),
            move |held| held.close(reason()),
        )
    }

    /// The sessions that a node serves.
    pub(crate) fn served(&self, at: usize) -> impl Iterator<Item = &Session> {
        let served = self.served.iter().filter(move |served| served.at == at);
        served.map(|served| &served.session)
    }

    /// The sessions that a node serves for a gate.
    pub(crate) fn served_for(&self, at: usize, gate: usize) -> Vec<i64> {
        let link = self.links.get(&(at, gate));
        let sessions = link.map(|link| link.state.receiver().sessions());
        let mut ids: Vec<_> = sessions
            .into_iter()
            .flatten()
            .map(|served| served.session().id())
            .collect();
        ids.sort_unstable();
        ids
    }

    fn send(
        &mut self,
        (at, session): (usize, &Session),
        attempt: impl FnOnce(&mut LinkState<Session>, i64, u64) -> Result,
        hold: impl FnOnce(&mut Held) -> Result,
    ) -> Result {
        let id = session.id();
        let served = self.served_of(at, session).ok_or_else(|| not_served(id))?;
        let first = served.first;
        let Place { gate, key } = match served.whereabouts.destination(&first) {
            Destination::Held(held) => return hold(held),
            Destination::Gate(place) => place,
        };
        let mut sent = Err(not_served(id));
        self.input((at, gate), |state, _| sent = attempt(state, id, key));
        sent
    }

    fn served_of(&mut self, at: usize, session: &Session) -> Option<&mut Served> {
        let is_it = |served: &&mut Served| served.at == at && served.session.key() == session.key();
        self.served.iter_mut().find(is_it)
    }

    pub(super) fn ended(&mut self, at: usize, session: Session) {
        let key = session.key();
        self.served
            .retain(|served| served.at != at || served.session.key() != key);
        self.out.push_back(Out::Ended { at, session });
    }
}

fn not_served(id: i64) -> Error {
    Error::new(code::NOT_FOUND, format!("session {id} is not served"))
}
