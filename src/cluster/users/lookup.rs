//! Finding users, and what is sent to them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::context::TokioContext;

use super::{
    context::{CALL_TIMEOUT, UserContext, all},
    locations::{Locations, Place},
};
use crate::{
    cluster::{
        compat::remote::CompatSession,
        directory::{driver::Directory, view::NodeId},
        link::config::stream_index,
        players::{
            FindReply, FindRequest, KickReply, KickRequest, LocateReply, LocateRequest, PushReply,
            PushRequest, UserId as ProtoUser,
        },
    },
    error::{Error, Result, code},
    kick::Kick,
    session::{Push, Session, UserId},
};

/// How long the owner of a user has to answer before all gates are asked.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(1);

/// Finds users from any node.
#[derive(Clone)]
pub(super) struct Lookup {
    context: Arc<UserContext>,
    directory: Arc<Directory>,
    /// A leaf lock.
    locations: Arc<Mutex<Locations>>,
}

/// What was found of some users.
#[derive(Default)]
struct Found {
    places: Vec<(UserId, Arc<[Place]>)>,
    /// Why not all nodes could be asked.
    error: Option<Error>,
}

/// The users that a push did not reach.
#[derive(Default)]
pub(super) struct Missed {
    pub(super) users: Vec<UserId>,
    /// Why some of them may be online all the same.
    pub(super) error: Option<Error>,
}

impl Lookup {
    pub(super) fn new(context: Arc<UserContext>, directory: Arc<Directory>) -> Self {
        Self {
            context,
            directory,
            locations: Arc::default(),
        }
    }

    /// The sessions of a user, at all gates.
    ///
    /// # Errors
    /// Of a node that could not be asked, when no other has the user.
    pub(super) async fn locate(&self, user: UserId) -> Result<Vec<Place>> {
        let mut places: Vec<_> = self
            .served_without_link(&user)
            .iter()
            .filter_map(|session| {
                let gate = CompatSession::of(session)?.gate().into();
                let session = session.id();
                Some(Place { gate, session })
            })
            .collect();
        let found = self.find(vec![user]).await;
        places.extend(
            found
                .places
                .iter()
                .flat_map(|(_, places)| places.iter().cloned()),
        );
        match found.error {
            Some(error) if places.is_empty() => Err(error),
            _ => Ok(places),
        }
    }

    /// Pushes to all sessions of users: one call to each gate and stream.
    pub(super) async fn push(&self, users: Vec<UserId>, route: &str, body: Bytes) -> Missed {
        if let [user] = &users[..]
            && self.push_cached(user, route, &body).await
        {
            return Missed::default();
        }
        let mut seen = HashSet::new();
        let mut users = users;
        users.retain(|user| seen.insert(user.clone()));
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        let mut served = HashSet::new();
        for user in &users {
            let push = Push::new(route, body.clone());
            for session in self.served_without_link(user) {
                if session.sink().push(&push).is_ok() {
                    served.insert(user.clone());
                }
            }
            match self.locations.lock().get(user) {
                Some(places) => known.push((user.clone(), places)),
                None => unknown.push(user.clone()),
            }
        }
        let metrics = &self.context.metrics;
        metrics.cached.increment(known.len() as u64);
        // Those that are not where they were are looked up, with those that were never found.
        unknown.extend(self.push_to(known, route, &body).await);
        let (mut missed, mut error) = (Vec::new(), None);
        if !unknown.is_empty() {
            let found = self.find(unknown.clone()).await;
            let known: HashSet<_> = found.places.iter().map(|(user, _)| user.clone()).collect();
            missed.extend(unknown.into_iter().filter(|user| !known.contains(user)));
            missed.extend(self.push_to(found.places, route, &body).await);
            error = found.error;
        }
        missed.retain(|user| !served.contains(user));
        metrics.missed.increment(missed.len() as u64);
        let error = error.filter(|_| !missed.is_empty());
        Missed {
            users: missed,
            error,
        }
    }

    /// [`push`](Self::push) to a user that was found in one place, without the tables and the task that
    /// many users take: 22,900 instructions instead of 29,200. Returns whether the push has reached the
    /// user there; if not, the place is forgotten.
    async fn push_cached(&self, user: &UserId, route: &str, body: &Bytes) -> bool {
        if !self.served_without_link(user).is_empty() {
            return false;
        }
        let cached = self.locations.lock().get(user);
        let Some([place]) = cached.as_deref() else {
            return false;
        };
        let stream = stream_index(place.session) as u64;
        let request = PushRequest {
            route: route.to_owned(),
            body: body.clone(),
            users: vec![user.into()],
            stream: stream as u32,
        };
        let (caller, metrics) = (&self.context.caller, &self.context.metrics);
        let call =
            caller.call::<_, PushReply>(&place.gate, stream, "Users.Push", &request, CALL_TIMEOUT);
        metrics.cached.increment(1);
        metrics.push_calls.increment(1);
        let reply = TokioContext::new(call, self.context.runtime.clone()).await;
        let reached = reply.is_ok_and(|reply| reply.missed.is_empty());
        if !reached {
            self.locations.lock().forget(user);
        }
        reached
    }

    /// Kicks all sessions of a user. Returns whether there was one.
    ///
    /// # Errors
    /// Of a node that could not be asked, when no other has the user.
    pub(super) async fn kick(&self, user: UserId, kick: Kick) -> Result<bool> {
        let served = self.served_without_link(&user);
        for session in &served {
            session.kick_with(kick.clone());
        }
        let found = self.find(vec![user.clone()]).await;
        let request = KickRequest {
            user: Some((&user).into()),
            kick: kick.encode().into(),
        };
        let places = found.places.iter().flat_map(|(_, places)| places.iter());
        let gates: BTreeMap<_, _> = places.map(|place| (&place.gate, place.session)).collect();
        let calls = gates.into_iter().map(|(gate, session)| {
            let key = session.unsigned_abs();
            let caller = &self.context.caller;
            caller.call::<_, KickReply>(gate, key, "Users.Kick", &request, CALL_TIMEOUT)
        });
        let mut error = found.error;
        let mut kicked = !served.is_empty();
        for reply in all(&self.context.runtime, calls)
            .await
            .into_iter()
            .flatten()
        {
            match reply {
                Ok(reply) => kicked |= reply.found,
                Err(failed) => error = Some(failed),
            }
        }
        match error {
            Some(error) if !kicked => Err(error),
            _ => Ok(kicked),
        }
    }

    /// The sessions of a user that this node serves for gates without links, which answer no calls.
    fn served_without_link(&self, user: &UserId) -> Vec<Session> {
        let mut sessions = self.context.sessions.find_by_user(user);
        sessions.retain(|session| CompatSession::of(session).is_some());
        sessions
    }

    /// Asks the owners of users, and adds what this node serves itself. Keeps where they are.
    ///
    /// Asks all gates for users whose owners do not answer, and for all without numbered views.
    async fn find(&self, users: Vec<UserId>) -> Found {
        self.context.metrics.looked_up.increment(users.len() as u64);
        let mut places = vec![Vec::new(); users.len()];
        let left = match self.directory.owners(&users) {
            Some(owners) => self.ask_owners(&users, owners, &mut places).await,
            None => (0..users.len()).collect(),
        };
        let error = match left.is_empty() {
            true => None,
            false => self.ask_gates(&users, left, &mut places).await,
        };
        let mut found = Found {
            places: Vec::new(),
            error,
        };
        let mut locations = self.locations.lock();
        for (user, mut places) in users.into_iter().zip(places) {
            self.add_own(&user, &mut places);
            if places.is_empty() {
                locations.forget(&user);
                continue;
            }
            let places: Arc<[Place]> = places.into();
            locations.insert(user.clone(), places.clone());
            found.places.push((user, places));
        }
        self.context.metrics.locations.set(locations.len() as f64);
        found
    }

    /// Asks the owners of users. Returns the users, by their place in the list, that are left to ask
    /// for.
    async fn ask_owners(
        &self,
        users: &[UserId],
        owners: HashMap<NodeId, Vec<usize>>,
        places: &mut [Vec<Place>],
    ) -> Vec<usize> {
        let calls = owners.iter().map(|(owner, asked)| {
            let request = LocateRequest {
                users: asked.iter().map(|at| (&users[*at]).into()).collect(),
            };
            let caller = &self.context.caller;
            let (to, method) = (&owner.address, "Directory.Locate");
            caller.call::<_, LocateReply>(to, 0, method, &request, LOCATE_TIMEOUT)
        });
        let replies = all(&self.context.runtime, calls).await;
        let mut left = Vec::new();
        for (asked, reply) in owners.into_values().zip(replies) {
            let reply = reply.and_then(Result::ok).unwrap_or_default();
            let gates: Vec<Arc<str>> = reply
                .gates
                .iter()
                .map(|gate| gate.as_str().into())
                .collect();
            let mut answers = reply.users.into_iter();
            for at in asked {
                let Some(answer) = answers.next().filter(|answer| answer.known) else {
                    left.push(at);
                    continue;
                };
                let found = answer.places.iter().filter_map(|place| {
                    let gate = gates.get(place.gate as usize)?.clone();
                    let session = place.session;
                    Some(Place { gate, session })
                });
                places[at].extend(found);
            }
        }
        left
    }

    /// Asks all gates for some users, by their place in the list.
    async fn ask_gates(
        &self,
        users: &[UserId],
        asked: Vec<usize>,
        places: &mut [Vec<Place>],
    ) -> Option<Error> {
        let request = FindRequest {
            users: asked.iter().map(|at| (&users[*at]).into()).collect(),
        };
        let nodes = self.context.nodes();
        let calls = nodes.iter().map(|node| {
            let caller = &self.context.caller;
            caller.call::<_, FindReply>(node, 0, "Users.Find", &request, CALL_TIMEOUT)
        });
        let replies = all(&self.context.runtime, calls).await;
        let mut error = None;
        for (node, reply) in nodes.iter().zip(replies) {
            match reply {
                Some(Ok(reply)) => {
                    for session in reply.sessions {
                        let at = asked.get(session.user as usize);
                        if let Some(places) = at.and_then(|at| places.get_mut(*at)) {
                            places.push(Place {
                                gate: node.clone(),
                                session: session.session,
                            });
                        }
                    }
                }
                // It is of a version without users, or has left meanwhile.
                Some(Err(failed)) if failed.code() == code::UNSUPPORTED => {}
                Some(Err(_)) if !self.context.caller.is_member(node) => {}
                Some(Err(failed)) => error = Some(failed),
                None => error = Some(Error::new(code::UNAVAILABLE, "the node stops")),
            }
        }
        error
    }

    /// Adds the sessions that this node has or serves: an owner may not have them yet.
    fn add_own(&self, user: &UserId, places: &mut Vec<Place>) {
        for session in self.context.sessions.find_by_user(user) {
            if CompatSession::of(&session).is_some() {
                continue;
            }
            let gate = session.sink().gate_address();
            let place = Place {
                gate: gate.unwrap_or_else(|| self.context.own()),
                session: session.id(),
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }

    /// Pushes to users at these places. Returns those that no gate had, and forgets where they were.
    async fn push_to(
        &self,
        users: Vec<(UserId, Arc<[Place]>)>,
        route: &str,
        body: &Bytes,
    ) -> Vec<UserId> {
        let mut frames: BTreeMap<(Arc<str>, u64), Vec<&UserId>> = BTreeMap::new();
        for (user, places) in &users {
            for place in places.iter() {
                let stream = stream_index(place.session) as u64;
                let frame = frames.entry((place.gate.clone(), stream)).or_default();
                // A gate pushes to all sessions that a user has on the stream.
                if frame.last() != Some(&user) {
                    frame.push(user);
                }
            }
        }
        let calls = frames.iter().map(|((gate, stream), users)| {
            let request = PushRequest {
                route: route.to_owned(),
                body: body.clone(),
                users: users.iter().map(|user| ProtoUser::from(*user)).collect(),
                stream: *stream as u32,
            };
            let caller = &self.context.caller;
            caller.call::<_, PushReply>(gate, *stream, "Users.Push", &request, CALL_TIMEOUT)
        });
        self.context
            .metrics
            .push_calls
            .increment(frames.len() as u64);
        let replies = all(&self.context.runtime, calls).await;
        let mut reached = HashSet::new();
        let mut moved = HashSet::new();
        for (users, reply) in frames.values().zip(replies) {
            let missed: HashSet<_> = match reply {
                Some(Ok(reply)) => reply.missed.into_iter().map(|at| at as usize).collect(),
                _ => (0..users.len()).collect(),
            };
            for (at, user) in users.iter().enumerate() {
                let set = if missed.contains(&at) {
                    &mut moved
                } else {
                    &mut reached
                };
                set.insert(*user);
            }
        }
        let mut locations = self.locations.lock();
        moved.iter().for_each(|user| locations.forget(user));
        let users = users.iter().map(|(user, _)| user);
        users
            .filter(|user| !reached.contains(user))
            .cloned()
            .collect()
    }
}
