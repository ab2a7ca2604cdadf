//! Properties of a link whose peer sends anything, shared by the fuzz target and the tests.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use tokio::{sync::oneshot, time::Instant};

use super::{
    activity::OpenCalls,
    effect::Effect,
    proto::{Batch, Frame, Kind, SessionOpen, SharedValue},
    served_session::NewSession,
    session::LinkedSession,
    state::LinkState,
};
use crate::{
    cluster::transport::Unreached,
    session::{CloseReason, Push, SharedValues, UserId},
};

/// Runs the input as a history of a link: frames of the peer, of any content and in any order,
/// between what this node and its streams do. Frames survive encoding, each request of a client ends
/// once, each session of the peer begins and ends once, and nothing is left when the peer is gone.
pub(crate) fn check(data: &[u8]) {
    let mut link = Link::new();
    let mut input = Input(data);
    while let Some(choice) = input.0.split_off_first() {
        link.step(*choice, &mut input);
    }
    link.close();
}

/// What is left of the input. Behind its end everything is 0.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn id(&mut self) -> i64 {
        i64::from(self.byte().cast_signed())
    }

    /// Bytes behind their length.
    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        self.0.split_off(..len).unwrap_or_default()
    }

    /// A frame whose fields are chosen one by one, so that most of them mean something.
    fn frame(&mut self) -> Frame {
        let bytes = self.bytes();
        let (route, body) = bytes.split_at(bytes.len() / 2);
        let flags = self.byte();
        Frame {
            kind: i32::from(self.byte() % 52),
            session: self.id(),
            request: self.byte().into(),
            route: Bytes::copy_from_slice(route),
            body: Bytes::copy_from_slice(body),
            error: flags & 1 != 0,
            uid: self.id(),
            binds: self.byte().into(),
            timeout_ms: self.byte().into(),
            stream: self.byte().into(),
            open: (flags & 2 != 0).then(|| {
                Box::new(SessionOpen {
                    client_address: String::new(),
                    number: self.byte().into(),
                    resumed: flags & 4 != 0,
                })
            }),
            ..Frame::default()
        }
    }
}

/// A session handle of the check.
#[derive(Clone)]
struct Handle {
    id: i64,
    /// 0 on the gate.
    key: u64,
    request: u64,
    user: Rc<RefCell<Option<UserId>>>,
    shared: Rc<SharedValues>,
    closed: Rc<Cell<bool>>,
}

impl Handle {
    fn new(id: i64, key: u64) -> Self {
        Self {
            id,
            key,
            request: 0,
            user: Rc::default(),
            shared: Rc::default(),
            closed: Rc::default(),
        }
    }
}

impl LinkedSession for Handle {
    fn id(&self) -> i64 {
        self.id
    }

    fn user(&self) -> Option<UserId> {
        self.user.borrow().clone()
    }

    fn client_address(&self) -> String {
        String::new()
    }

    fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn rebind(&self, user: Option<UserId>) {
        self.user.replace(user);
    }

    fn shared(&self) -> &SharedValues {
        &self.shared
    }

    fn for_request(&self, request: u64) -> Self {
        Self {
            request,
            ..self.clone()
        }
    }
}

struct Link {
    state: LinkState<Handle>,
    now: Instant,
    /// The last stream of either direction.
    stream: u64,
    inbound: u64,
    outbound: u64,
    /// Sessions of this gate.
    clients: BTreeMap<i64, Handle>,
    /// Requests of this gate without an end, with their session.
    requests: BTreeSet<(i64, u64)>,
    last_request: u64,
    /// Sessions of the peer.
    served: BTreeMap<i64, Handle>,
    /// Messages of the peer that are not finished, with their request.
    unfinished: Vec<(Handle, u64)>,
    /// Pushes to users at the peer.
    user_pushes: Vec<oneshot::Receiver<Unreached>>,
}

impl Link {
    fn new() -> Self {
        let (grace, idle_timeout) = (Duration::from_secs(2), Duration::from_secs(5));
        Self {
            state: LinkState::new(0, grace, Some(idle_timeout)),
            now: Instant::now(),
            stream: 0,
            inbound: 0,
            outbound: 0,
            clients: BTreeMap::new(),
            requests: BTreeSet::new(),
            last_request: 0,
            served: BTreeMap::new(),
            unfinished: Vec::new(),
            user_pushes: Vec::new(),
        }
    }

    fn step(&mut self, choice: u8, input: &mut Input<'_>) {
        let mut effects = Vec::new();
        match choice % 18 {
            0..3 => {
                if let Some(batch) = decoded(input.bytes()) {
                    self.receive(batch.frames);
                }
            }
            3..6 => {
                let frame = input.frame();
                self.receive(vec![frame]);
            }
            6 => {
                for frame in decoded(input.bytes()).unwrap_or_default().frames {
                    self.state.answer(&frame, &mut effects).ok();
                }
            }
            7 => {
                let frame = Frame {
                    kind: [Kind::Credit, Kind::SessionUnknown, Kind::Idle]
                        [usize::from(input.byte() % 3)]
                    .into(),
                    session: input.id(),
                    credit: input.byte().into(),
                    opened: input.byte().into(),
                    ..Frame::default()
                };
                let answered = self.state.answer(&frame, &mut effects);
                assert!(answered.is_ok(), "{answered:?}");
            }
            8 => {
                self.stream += 1;
                let (number, epoch) = (self.stream, input.byte().into());
                if self
                    .state
                    .accept(number, epoch, self.now, &mut effects)
                    .is_ok()
                {
                    self.inbound = number;
                }
            }
            9 => {
                self.state
                    .inbound_down(self.inbound, self.now, &mut effects);
            }
            10 => {
                self.stream += 1;
                self.outbound = self.stream;
                let _ = self.state.poll_open(Waker::noop());
                self.state.connecting(self.outbound);
                self.state
                    .outbound_up(self.outbound, input.byte().into(), &mut effects);
            }
            11 => self.state.outbound_down(self.now, &mut effects),
            12 => {
                let byte = input.byte();
                let calls = OpenCalls {
                    sent: byte & 1 != 0,
                    served: byte & 2 != 0,
                };
                self.now += Duration::from_millis(100) * u32::from(byte / 4);
                self.state.probe(self.now, calls, &mut effects);
            }
            13 => self.send(),
            14 => match input.id() {
                // No client has it.
                0 => self.push_to_users(),
                id => self.message(id),
            },
            15 => self.end_client(input.id()),
            16 => self.answer(input),
            _ => self.change(input),
        }
        self.apply(effects);
    }

    /// Feeds frames of the inbound stream.
    fn receive(&mut self, frames: Vec<Frame>) {
        let mut effects = Vec::new();
        self.state.hear(self.inbound, true, &mut effects);
        for frame in frames {
            let Self {
                state,
                served,
                inbound,
                now,
                ..
            } = self;
            state.receive(*inbound, frame, || *now, true, &mut effects, &mut |new| {
                open(served, &new)
            });
            self.apply(std::mem::take(&mut effects));
        }
        self.apply(effects);
    }

    /// Sends what is queued: the peer can read it.
    fn send(&mut self) {
        let mut readers = Vec::new();
        let batches = [
            self.state
                .poll_batch(self.outbound, Waker::noop(), &mut readers),
            self.state.poll_answers(self.inbound, Waker::noop()),
        ];
        for batch in batches {
            if let Poll::Ready(Some(batch)) = batch {
                assert_eq!(decoded(&batch.encode_to_vec()), Some(batch));
            }
        }
    }

    /// A client of this gate sends a request.
    fn message(&mut self, id: i64) {
        let request = self.last_request + 1;
        let session = self
            .clients
            .entry(id)
            .or_insert_with(|| Handle::new(id, 0))
            .clone();
        let frame = |()| {
            Frame::message(
                Kind::Message,
                id,
                request,
                "Room.Say".into(),
                Bytes::default(),
            )
        };
        if self.state.message(&session, (), frame).is_ok() {
            self.last_request = request;
            self.requests.insert((id, request));
        }
    }

    fn push_to_users(&mut self) {
        let users = [UserId::from(7), "ann".into()];
        let push = Push::new("on", Bytes::default());
        let frame = Frame::user_push(users.iter(), &push);
        let (done, ended) = oneshot::channel();
        let first = self.last_request + 1;
        if self.state.push_to_users(frame, |_| first, done).is_ok() {
            self.last_request += 2;
            self.user_pushes.push(ended);
        }
    }

    /// A client of this gate goes.
    fn end_client(&mut self, id: i64) {
        if let Some(session) = self.clients.remove(&id) {
            session.closed.set(true);
            self.state
                .session_closed(&session, &CloseReason::Client, false);
            self.requests.retain(|(of, _)| *of != id);
        }
    }

    /// A handler of this node is done with a message.
    fn answer(&mut self, input: &mut Input<'_>) {
        let body = Bytes::copy_from_slice(input.bytes());
        if let Some((session, request)) = self.unfinished.pop() {
            if request != 0 {
                self.state
                    .respond(session.id, session.key, request, || Ok(body))
                    .ok();
            }
            self.state.finished(session.id, session.key);
        }
    }

    /// This node changes a session of the peer.
    fn change(&mut self, input: &mut Input<'_>) {
        let Some(session) = self.served.get(&input.id()).cloned() else {
            return;
        };
        let (id, key) = (session.id, session.key);
        match input.byte() % 5 {
            0 => {
                let user = UserId::of_parts(input.id(), "");
                self.state.bind(&session, key, user).ok();
            }
            1 => _ = self.state.route(id, key, "Room", Some("10.0.0.1:34580")),
            2 => {
                let value = Bytes::from_static(b"1");
                let key_name = ["a", "b"][usize::from(input.byte() % 2)];
                self.state.share(&session, key, key_name, Some(value)).ok();
            }
            3 => {
                let push = Frame::push(id, Vec::new(), "onSay", Bytes::default());
                self.state.push(id, key, push).ok();
            }
            _ => {
                let reason = CloseReason::Kicked("bye".to_owned());
                self.state.close_session(id, key, reason).ok();
            }
        }
    }

    /// Reads all that an effect has, as the driver does.
    fn apply(&mut self, effects: Vec<Effect<Handle>>) {
        for effect in effects {
            match effect {
                Effect::Deliver {
                    session, request, ..
                } => {
                    self.expect_served(&session);
                    self.unfinished.push((session, request));
                }
                Effect::DeliverCall { session, frame, .. } => {
                    if let Some(session) = session {
                        self.expect_served(&session);
                        self.unfinished.push((session, 0));
                    }
                    frame.timeout();
                    self.state.reply(frame.request, Ok(frame.body));
                }
                Effect::Respond { session, frame } => {
                    self.end_request(session.id, session.request);
                    frame.into_answer().ok();
                }
                Effect::FailRequests { session, requests } => {
                    for request in requests {
                        self.end_request(session.id, request);
                    }
                }
                Effect::EndSession { session, .. } => {
                    let ended = self.served.remove(&session.id);
                    assert!(ended.is_some_and(|ended| ended.key == session.key));
                }
                Effect::Bind { session, user, .. } => {
                    if let (Some(session), Some(user)) = (&session, user) {
                        session.rebind(user);
                    }
                    session.map(|session| self.state.session_bound(&session));
                }
                Effect::Share {
                    session: Some(session),
                    values,
                    ..
                } => {
                    for SharedValue { key, value } in values {
                        session.shared.set(&key, Some(value)).ok();
                        self.state.session_shared(&session, &key);
                    }
                }
                Effect::Gate { mut frame, .. } | Effect::Multicast { mut frame, .. } => {
                    frame.take_route().ok();
                    frame.take_close();
                    frame.take_target();
                    frame.take_kick();
                }
                Effect::UserPush(frame) => {
                    let users = frame.users().count();
                    self.state.user_push_handled(frame.request, users, &[0]);
                    self.state.acknowledge_user_pushes();
                }
                Effect::UserPushesEnded(ended) => {
                    for (done, unreached) in ended {
                        done.send(unreached).ok();
                    }
                }
                Effect::Reply(frame) => _ = frame.into_answer(),
                Effect::PeerIdle => _ = self.state.peer_idle(OpenCalls::default()),
                _ => {}
            }
        }
    }

    fn expect_served(&self, session: &Handle) {
        let served = self.served.get(&session.id);
        assert!(served.is_some_and(|served| served.key == session.key));
    }

    fn end_request(&mut self, session: i64, request: u64) {
        assert!(
            self.requests.remove(&(session, request)),
            "request {request} of session {session} ends twice"
        );
    }

    /// The peer is gone.
    fn close(mut self) {
        let mut effects = Vec::new();
        self.state.close(&mut effects);
        self.apply(effects);
        assert!(self.requests.is_empty(), "without an end");
        for mut push in self.user_pushes {
            assert!(push.try_recv().is_ok(), "a push without an end");
        }
        assert!(self.served.is_empty(), "still served");
        assert_eq!(self.state.sender.queue.bytes(), 0);
    }
}

fn open(served: &mut BTreeMap<i64, Handle>, new: &NewSession<'_>) -> Handle {
    let handle = Handle::new(new.id, new.key);
    let before = served.insert(new.id, handle.clone());
    assert!(before.is_none(), "session {} is served twice", new.id);
    handle
}

/// A batch, which survives encoding.
fn decoded(bytes: &[u8]) -> Option<Batch> {
    let batch = Batch::decode(bytes).ok()?;
    let again = Batch::decode(&*batch.encode_to_vec());
    assert_eq!(again.as_ref(), Ok(&batch));
    Some(batch)
}
