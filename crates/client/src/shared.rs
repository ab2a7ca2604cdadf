//! The state that client handles share with the connection's task: handles queue messages, the task
//! writes them.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    task::Waker,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};
use tracing::debug;

use nano_protocol::{
    Error, Result, code,
    handshake::Reply,
    kick::Kick,
    message::{Message, MessageError},
    packet::{self, HEADER, Kind, PacketError},
    resume::Lost,
};

use crate::{disconnect::DisconnectReason, subscription::Listeners};

/// Capacity of the send queue in bytes.
const CAPACITY: u32 = 256 * 1024;
/// The most a message takes beside its route and body: header, flag, id, length of the route.
const OVERHEAD: usize = HEADER + 1 + 10 + 1;

pub(crate) struct Shared {
    reply: Reply,
    listeners: Arc<Listeners>,
    /// One permit per byte that may still be queued. The semaphore is fair, so small messages do
    /// not overtake a large one that waits.
    capacity: Semaphore,
    /// A leaf lock: no other lock is taken, and no waker or callback run, while it is held.
    state: Mutex<State>,
    closed: Notify,
    /// Set before the reason of the close.
    kick: OnceLock<Kick>,
}

struct State {
    phase: Phase,
    /// Whole encoded packets.
    send_queue: BytesMut,
    /// The permits of `capacity` that `send_queue` holds.
    charged: usize,
    last_id: u64,
    /// The requests without a response, by id.
    in_flight: HashMap<u64, oneshot::Sender<Result<Bytes>>>,
    /// Wakes the connection's task.
    task: Option<Waker>,
}

impl State {
    /// Takes all queued packets and the number of their permits.
    fn take(&mut self) -> (BytesMut, usize) {
        let packets = std::mem::take(&mut self.send_queue);
        (packets, std::mem::take(&mut self.charged))
    }
}

enum Phase {
    Open,
    /// No new messages; the task still writes the send queue.
    Closing(DisconnectReason),
    /// The socket is released.
    Closed(DisconnectReason),
}

impl Phase {
    fn reason(&self) -> Option<&DisconnectReason> {
        match self {
            Self::Open => None,
            Self::Closing(reason) | Self::Closed(reason) => Some(reason),
        }
    }
}

impl Shared {
    pub(crate) fn new(reply: Reply, listeners: Arc<Listeners>) -> Self {
        let state = State {
            phase: Phase::Open,
            send_queue: BytesMut::new(),
            charged: 0,
            last_id: 0,
            in_flight: HashMap::new(),
            task: None,
        };
        Self {
            reply,
            listeners,
            capacity: Semaphore::new(CAPACITY as usize),
            state: Mutex::new(state),
            closed: Notify::new(),
            kick: OnceLock::new(),
        }
    }

    pub(crate) fn reply(&self) -> &Reply {
        &self.reply
    }

    /// The kick of the server, once there is one.
    pub(crate) fn kick(&self) -> Option<&Kick> {
        self.kick.get()
    }

    /// Keeps the kick of the server; it ends the connection, so there is one.
    pub(crate) fn set_kick(&self, kick: Kick) {
        let _ = self.kick.set(kick);
    }

    pub(crate) fn listeners(&self) -> &Arc<Listeners> {
        &self.listeners
    }

    /// Queues a request under the next id, waiting for capacity.
    pub(crate) async fn request(&self, mut message: Message) -> Result<PendingResponse<'_>> {
        let permit = self.reserve(&message).await?;
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let id = state.last_id + 1;
        message.id = id;
        self.enqueue(&mut state, &message, permit)?;
        state.last_id = id;
        state.in_flight.insert(id, sender);
        let task = state.task.take();
        drop(state);
        wake(task);
        Ok(PendingResponse {
            shared: self,
            id,
            receiver,
        })
    }

    /// Queues a notify, waiting for capacity.
    pub(crate) async fn notify(&self, message: &Message) -> Result {
        let permit = self.reserve(message).await?;
        let mut state = self.state.lock();
        self.enqueue(&mut state, message, permit)?;
        let task = state.task.take();
        drop(state);
        wake(task);
        Ok(())
    }

    /// Waits for capacity for one message. A message larger than the whole queue waits until the
    /// queue is empty.
    async fn reserve(&self, message: &Message) -> Result<SemaphorePermit<'_>> {
        let size = OVERHEAD + message.route.len() + message.body.len();
        let permit = self
            .capacity
            .acquire_many(u32::try_from(size).unwrap_or(CAPACITY).min(CAPACITY))
            .await;
        permit.map_err(|_| self.closed_error())
    }

    fn enqueue(&self, state: &mut State, message: &Message, permit: SemaphorePermit<'_>) -> Result {
        if let Some(reason) = state.phase.reason() {
            return Err(closed_error(reason));
        }
        let dictionary = &self.reply.dictionary;
        packet::encode_with(Kind::Data, &mut state.send_queue, |out| {
            message.encode(dictionary, out).map_err(EncodeError::from)
        })?;
        state.charged += permit.num_permits();
        permit.forget();
        Ok(())
    }

    /// Takes all queued packets and returns their capacity.
    pub(crate) fn take(&self) -> BytesMut {
        let (packets, charged) = self.state.lock().take();
        if charged > 0 {
            self.capacity.add_permits(charged);
        }
        packets
    }

    /// Registers the task to be woken by the next queued message or by [`close`](Shared::close).
    ///
    /// # Errors
    /// The reason, if the connection is closing already.
    pub(crate) fn register(&self, task: &Waker) -> Result<(), DisconnectReason> {
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

    /// Completes the request with this id. A response to an unknown or cancelled request is dropped.
    pub(crate) fn complete(&self, id: u64, response: Result<Bytes>) {
        let request = self.state.lock().in_flight.remove(&id);
        match request {
            Some(request) => drop(request.send(response)),
            None => debug!(id, "response dropped, no such request"),
        }
    }

    /// Fails all requests in flight and drops what is queued: the session they were for is gone.
    pub(crate) fn lose(&self, lost: Lost) {
        let (in_flight, (packets, charged)) = {
            let mut state = self.state.lock();
            // At once: a request whose packet is dropped must not stay in flight.
            (std::mem::take(&mut state.in_flight), state.take())
        };
        drop(packets);
        self.capacity.add_permits(charged);
        for (_, request) in in_flight {
            let error = Error::new(code::CLOSED, format!("the session is lost: {lost}"));
            // The caller may be gone.
            let _ = request.send(Err(error));
        }
    }

    /// Refuses new messages and fails all requests in flight. The task still writes the send queue.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        if let Phase::Open = state.phase {
            state.phase = Phase::Closing(DisconnectReason::Local);
            self.release(state);
        }
    }

    /// Marks the connection closed. The reason of an earlier [`close`](Shared::close) stays.
    pub(crate) fn end(&self, reason: DisconnectReason) {
        let mut state = self.state.lock();
        let reason = match &state.phase {
            Phase::Open => reason,
            Phase::Closing(earlier) => earlier.clone(),
            Phase::Closed(_) => return,
        };
        state.phase = Phase::Closed(reason);
        state.send_queue = BytesMut::new();
        self.release(state);
        self.closed.notify_waiters();
    }

    /// Fails everything that waits for the connection, after unlocking: wakers and the drops of
    /// callbacks run foreign code.
    fn release(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let in_flight = std::mem::take(&mut state.in_flight);
        let task = state.task.take();
        drop(state);
        drop(in_flight);
        self.capacity.close();
        self.listeners.close();
        wake(task);
    }

    pub(crate) async fn closed(&self) -> DisconnectReason {
        loop {
            // Created before the check, so an end right after the check wakes it.
            let closed = self.closed.notified();
            if let Phase::Closed(reason) = &self.state.lock().phase {
                return reason.clone();
            }
            closed.await;
        }
    }

    pub(crate) fn close_reason(&self) -> Option<DisconnectReason> {
        self.state.lock().phase.reason().cloned()
    }

    fn closed_error(&self) -> Error {
        closed_error(
            self.state
                .lock()
                .phase
                .reason()
                .unwrap_or(&DisconnectReason::Local),
        )
    }
}

fn closed_error(reason: &DisconnectReason) -> Error {
    Error::new(code::CLOSED, format!("the connection is closed: {reason}"))
}

fn wake(task: Option<Waker>) {
    if let Some(task) = task {
        task.wake();
    }
}

/// A request in flight. Dropping it removes the request, so a late response is ignored.
pub(crate) struct PendingResponse<'a> {
    shared: &'a Shared,
    id: u64,
    receiver: oneshot::Receiver<Result<Bytes>>,
}

impl PendingResponse<'_> {
    pub(crate) async fn receive(mut self) -> Result<Bytes> {
        (&mut self.receiver)
            .await
            .unwrap_or_else(|_| Err(self.shared.closed_error()))
    }
}

impl Drop for PendingResponse<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().in_flight.remove(&self.id);
    }
}

/// Why a message cannot be encoded.
enum EncodeError {
    Message(MessageError),
    Packet(PacketError),
}

impl From<MessageError> for EncodeError {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
    }
}

impl From<PacketError> for EncodeError {
    fn from(error: PacketError) -> Self {
        Self::Packet(error)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Message(error) => Error::from(error).recode(code::BAD_REQUEST),
            EncodeError::Packet(error) => Error::from(error).recode(code::TOO_LARGE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cancelled_request_is_not_in_flight() {
        let shared = Shared::new(Reply::default(), Arc::default());
        let response = shared
            .request(Message::request(0, "Echo.Echo", ""))
            .await
            .unwrap();
        assert_eq!(shared.state.lock().in_flight.len(), 1);
        drop(response);
        assert!(shared.state.lock().in_flight.is_empty());
    }

    #[tokio::test]
    async fn a_request_is_lost_with_its_session_or_sent_in_the_next() {
        let shared = Arc::new(Shared::new(Reply::default(), Arc::default()));
        let losing = shared.clone();
        // Until this test has ended, also by a panic.
        let loses = std::thread::spawn(move || {
            while Arc::strong_count(&losing) > 1 {
                losing.lose(Lost::Closed);
            }
        });
        for _ in 0..100_000 {
            let message = Message::request(0, "Echo.Echo", "");
            let response = shared.request(message).await.unwrap();
            let state = shared.state.lock();
            let in_flight = state.in_flight.contains_key(&response.id);
            assert_eq!(in_flight, !state.send_queue.is_empty());
            drop(state);
        }
        drop(shared);
        loses.join().unwrap();
    }
}
