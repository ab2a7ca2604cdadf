//! Where the handles of a client and the task of its connection meet: any thread queues, the task
//! writes.

use std::{collections::HashMap, sync::Arc, task::Waker};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};
use tracing::debug;

use super::{close::CloseReason, push::Listeners};
use crate::{
    error::{Error, Result, code},
    handshake::Reply,
    message::{Message, MessageError},
    packet::{self, HEADER, Kind, PacketError},
};

/// How many bytes wait to be written, at most.
const QUEUE: u32 = 256 * 1024;
/// What a message has beside its route and body, at most: header, flag, id, length of the route.
const OVERHEAD: usize = HEADER + 1 + 10 + 1;

pub(super) struct Link {
    reply: Reply,
    listeners: Arc<Listeners>,
    /// The bytes that may still be queued. First come, first served, so nothing overtakes a large
    /// message.
    room: Semaphore,
    state: Mutex<State>,
    closed: Notify,
}

struct State {
    phase: Phase,
    outgoing: BytesMut,
    /// The part of the room that `outgoing` takes.
    taken: usize,
    last_id: u64,
    /// The requests without an answer.
    pending: HashMap<u64, oneshot::Sender<Result<Bytes>>>,
    task: Option<Waker>,
}

enum Phase {
    Open,
    Closing(CloseReason),
    Closed(CloseReason),
}

impl Phase {
    fn reason(&self) -> Option<&CloseReason> {
        match self {
            Self::Open => None,
            Self::Closing(reason) | Self::Closed(reason) => Some(reason),
        }
    }
}

impl Link {
    pub(super) fn new(reply: Reply, listeners: Arc<Listeners>) -> Self {
        let state = State {
            phase: Phase::Open,
            outgoing: BytesMut::new(),
            taken: 0,
            last_id: 0,
            pending: HashMap::new(),
            task: None,
        };
        Self {
            reply,
            listeners,
            room: Semaphore::new(QUEUE as usize),
            state: Mutex::new(state),
            closed: Notify::new(),
        }
    }

    pub(super) fn reply(&self) -> &Reply {
        &self.reply
    }

    pub(super) fn listeners(&self) -> &Arc<Listeners> {
        &self.listeners
    }

    /// Queues a request under the next id.
    pub(super) async fn request(&self, mut message: Message) -> Result<Answer<'_>> {
        let room = self.room(&message).await?;
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let id = state.last_id + 1;
        message.id = id;
        self.queue(&mut state, &message, room)?;
        state.last_id = id;
        state.pending.insert(id, sender);
        let task = state.task.take();
        drop(state);
        wake(task);
        Ok(Answer {
            link: self,
            id,
            receiver,
        })
    }

    pub(super) async fn notify(&self, message: &Message) -> Result {
        let room = self.room(message).await?;
        let mut state = self.state.lock();
        self.queue(&mut state, message, room)?;
        let task = state.task.take();
        drop(state);
        wake(task);
        Ok(())
    }

    /// A message larger than the queue may have it alone.
    async fn room(&self, message: &Message) -> Result<SemaphorePermit<'_>> {
        let size = OVERHEAD + message.route.len() + message.body.len();
        let room = self
            .room
            .acquire_many(u32::try_from(size).unwrap_or(QUEUE).min(QUEUE))
            .await;
        room.map_err(|_| self.closed_error())
    }

    fn queue(&self, state: &mut State, message: &Message, room: SemaphorePermit<'_>) -> Result {
        if let Some(reason) = state.phase.reason() {
            return Err(closed_error(reason));
        }
        let dictionary = &self.reply.dictionary;
        packet::encode_with(Kind::Data, &mut state.outgoing, |out| {
            message.encode(dictionary, out).map_err(Unsendable::from)
        })?;
        state.taken += room.num_permits();
        room.forget();
        Ok(())
    }

    /// Takes all that is queued.
    pub(super) fn take(&self) -> BytesMut {
        let mut state = self.state.lock();
        let outgoing = std::mem::take(&mut state.outgoing);
        let taken = std::mem::take(&mut state.taken);
        drop(state);
        if taken > 0 {
            self.room.add_permits(taken);
        }
        outgoing
    }

    /// Has the task woken when there is something to write, or the connection is to close.
    ///
    /// # Errors
    /// Why it is to close already.
    pub(super) fn watch(&self, task: &Waker) -> Result<(), CloseReason> {
        let mut state = self.state.lock();
        if let Some(reason) = state.phase.reason() {
            return Err(reason.clone());
        }
        match &mut state.task {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
        Ok(())
    }

    /// Hands an answer to its request. One that nobody waits for any more, or never did, is
    /// dropped.
    pub(super) fn answer(&self, id: u64, answer: Result<Bytes>) {
        let request = self.state.lock().pending.remove(&id);
        match request {
            Some(request) => drop(request.send(answer)),
            None => debug!(id, "an answer that nobody waits for"),
        }
    }

    /// Ends all but the writing of what is queued.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if let Phase::Open = state.phase {
            state.phase = Phase::Closing(CloseReason::Local);
            self.release(state);
        }
    }

    /// The connection has ended; an earlier reason stays.
    pub(super) fn end(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        let reason = match &state.phase {
            Phase::Open => reason,
            Phase::Closing(earlier) => earlier.clone(),
            Phase::Closed(_) => return,
        };
        state.phase = Phase::Closed(reason);
        state.outgoing = BytesMut::new();
        self.release(state);
        self.closed.notify_waiters();
    }

    /// Lets go of everybody who waits for the connection. All of it outside of the lock, for it
    /// runs code of others.
    fn release(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let pending = std::mem::take(&mut state.pending);
        let task = state.task.take();
        drop(state);
        drop(pending);
        self.room.close();
        self.listeners.close();
        wake(task);
    }

    pub(super) async fn closed(&self) -> CloseReason {
        loop {
            // Made before the look, it hears of an end that comes right after it.
            let closed = self.closed.notified();
            if let Phase::Closed(reason) = &self.state.lock().phase {
                return reason.clone();
            }
            closed.await;
        }
    }

    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        self.state.lock().phase.reason().cloned()
    }

    fn closed_error(&self) -> Error {
        closed_error(
            self.state
                .lock()
                .phase
                .reason()
                .unwrap_or(&CloseReason::Local),
        )
    }
}

fn closed_error(reason: &CloseReason) -> Error {
    Error::new(code::CLOSED, format!("the connection is closed: {reason}"))
}

fn wake(task: Option<Waker>) {
    if let Some(task) = task {
        task.wake();
    }
}

/// An answer to come. Dropped, it makes the connection forget the request.
pub(super) struct Answer<'a> {
    link: &'a Link,
    id: u64,
    receiver: oneshot::Receiver<Result<Bytes>>,
}

impl Answer<'_> {
    pub(super) async fn receive(mut self) -> Result<Bytes> {
        (&mut self.receiver)
            .await
            .unwrap_or_else(|_| Err(self.link.closed_error()))
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.link.state.lock().pending.remove(&self.id);
    }
}

/// Why a message does not fit the wire.
enum Unsendable {
    Message(MessageError),
    Packet(PacketError),
}

impl From<MessageError> for Unsendable {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
    }
}

impl From<PacketError> for Unsendable {
    fn from(error: PacketError) -> Self {
        Self::Packet(error)
    }
}

impl From<Unsendable> for Error {
    fn from(error: Unsendable) -> Self {
        match error {
            Unsendable::Message(error) => Error::from(error).recode(code::BAD_REQUEST),
            Unsendable::Packet(error) => Error::from(error).recode(code::TOO_LARGE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_was_given_up_is_forgotten() {
        let link = Link::new(Reply::default(), Arc::default());
        let answer = link
            .request(Message::request(0, "Echo.Echo", ""))
            .await
            .unwrap();
        assert_eq!(link.state.lock().pending.len(), 1);
        drop(answer);
        assert!(link.state.lock().pending.is_empty());
    }
}
