//! The end of sessions at gates, also of those that move.

use bytes::Bytes;
use prost::Message;

use super::{
    defects::Defect,
    departures::HOLD_TIMEOUT,
    event::{At, Call, Event},
    gates::Moved,
    world::{GATES, World},
};
use crate::{
    cluster::{SessionClose, mesh::node_at},
    error::{Error, Result, code},
    gate::{
        client_state::Phase,
        departure::{REPEAT, is_repeated},
        migration_close::write_close,
        migration_message::CLOSE,
        moved_close::{Follow, MovedClose},
    },
    resume::Lost,
    session::CloseReason,
};

impl World {
    /// Ends a session, and its connection.
    pub(super) fn end(&mut self, gate: usize, id: i64, reason: CloseReason, lost: Lost) {
        let Some(entry) = self.gates[gate].sessions.remove(&id) else {
            return;
        };
        let left = entry.handle.0.lock().end();
        drop(left);
        self.gates[gate].registry.remove(id, lost);
        if let Some(conn) = entry.conn {
            self.end_connection(conn, matches!(reason, CloseReason::Kicked(_)));
        }
        entry.session.end(&reason);
        let holds = self.oracle.ended(id);
        self.expect(holds);
        self.mesh.closed(gate, &entry.session, &reason);
    }

    /// Closes a session, by a backend or the application of its gate.
    pub(super) fn kick(&mut self, gate: usize, id: i64) {
        if self.close_here(gate, id) {
            *self.oracle.closes.kicks.entry(id).or_default() += 1;
        }
    }

    /// Closes a session at this gate; false if it is not there.
    pub(super) fn close_here(&mut self, gate: usize, id: i64) -> bool {
        let this = &self.gates[gate];
        let (here, moved) = (this.sessions.get(&id), this.moved.get(&id));
        let handle = here.map(|entry| &entry.handle);
        let Some(handle) = handle.or(moved.map(|moved| &moved.handle)) else {
            return false;
        };
        let mut client = handle.0.lock();
        let moves = matches!(client.phase, Phase::Moving(_));
        let reason = CloseReason::Kicked("out".to_owned());
        if !client.try_close(reason.into()) && !self.has_defect(Defect::LooksOnce) {
            return false;
        }
        let has_moved = here.is_none();
        drop(client);
        self.note(|| format!("KICK {id} at {gate}"));
        self.oracle.kicked.insert(id);
        self.oracle.count("kicked");
        if moves {
            self.oracle.count("closed while it moves");
        }
        if has_moved {
            self.oracle.count("closed when it has moved");
        }
        self.settle(gate, id);
        true
    }

    /// The former gate closes a session. Returns whether it is closed here; false if the call is passed
    /// on.
    pub(super) fn close_for(
        &mut self,
        (at, from): (usize, usize),
        call: u64,
        body: Bytes,
    ) -> Result<bool> {
        let id = SessionClose::decode(body.clone()).unwrap().session;
        let arrives = self.gates[at].migrations.is_arriving(id);
        if self.close_here(at, id) {
            return Ok(true);
        }
        if let Some(adopting) = self.gates[at].adopting.get_mut(&id)
            && adopting.listed_at <= self.now
        {
            adopting.closed = true;
            self.oracle.count("closed on arrival");
            return Ok(true);
        }
        match self.gates[at].registry.moved_to(id) {
            Some(to) => {
                let passed = self.mesh.call((at, node_at(&to)), CLOSE, body.to_vec())?;
                let at = self.at_gate(at, id);
                let waits = Call::PassedOn { at, to: from, call };
                self.wait(passed, waits, HOLD_TIMEOUT);
                Ok(false)
            }
            None if arrives => Err(Error::new(code::UNAVAILABLE, "the session arrives")),
            None => Err(Error::new(code::NOT_FOUND, "no such session")),
        }
    }

    /// Does what is next about a session that has moved, as its task does.
    pub(super) fn follow(&mut self, at: At, mut next: Follow) {
        loop {
            let moved = &mut self.gates[at.gate].moved;
            let Some(Moved { handle, to, closes }) = moved.get_mut(&at.id) else {
                return;
            };
            next = match next {
                Follow::Look => {
                    let closed = handle.0.lock().end_moved();
                    match self.defect {
                        Some(Defect::ForgetsClose) => Follow::End,
                        Some(Defect::AsksOthersAgain) => {
                            *closes = MovedClose::default();
                            closes.noted(closed)
                        }
                        _ => closes.noted(closed),
                    }
                }
                Follow::Next(_) => {
                    let to = *to;
                    return self.send_close(at, to, 0);
                }
                Follow::Others(_) if self.defect == Some(Defect::AsksNoOthers) => Follow::Look,
                Follow::Others(_) => {
                    let others = (0..GATES).find(|it| ![at.gate, *to].contains(it));
                    return self.send_close(at, others.unwrap(), 0);
                }
                Follow::End => return drop(moved.remove(&at.id)),
            };
        }
    }

    /// Closes a session at its next gate, or at the third one.
    pub(super) fn send_close(&mut self, at: At, to: usize, times: usize) {
        if times == 0 {
            let holds = self.oracle.closes.sent(at);
            self.expect(holds);
        }
        let reason = CloseReason::Kicked("out".to_owned());
        let request = write_close(at.id, &reason);
        let call = self
            .mesh
            .call((at.gate, to), CLOSE, request.encode_to_vec());
        let times = times + 1;
        match call {
            Ok(call) => self.wait(call, Call::Close { at, to, times }, HOLD_TIMEOUT),
            Err(error) => self.close_answered(at, to, times, &Err(error)),
        }
    }

    pub(super) fn close_answered(&mut self, at: At, to: usize, times: usize, closed: &Result) {
        if is_repeated(times, closed) {
            let pause = REPEAT.as_millis() as u64;
            return self.later(pause, Event::Close { at, to, times });
        }
        if let Some(moved) = self.gates[at.gate].moved.get_mut(&at.id) {
            let next = match to == moved.to {
                true => moved.closes.answered(closed),
                false => Follow::Look,
            };
            self.follow(at, next);
        }
    }
}
