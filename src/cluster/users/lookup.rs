//! Finding users, and what is sent to them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    context::{CALL_TIMEOUT, UserContext, all},
    locations::{Locations, Place},
};
use crate::{
    cluster::{
        compat::remote::CompatSession,
        directory::{driver::Directory, view::NodeId},
        link::config::stream_index,
        players::{FindReply, FindRequest, KickReply, KickRequest, LocateReply, LocateRequest},
        transport::Unreached,
    },
    error::{Error, Result, code},
    handle::Missed,
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
    places: Vec<(UserId, Vec<Place>)>,
    /// Why not all nodes could be asked.
    error: Option<Error>,
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
            .filter_map(|session| {
                let gate = CompatSession::of(&session)?.gate().into();
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

    /// Pushes to all sessions of users: one frame to each gate and stream.
    pub(super) async fn push(&self, users: &[UserId], push: Push<'_>) -> Missed {
        let users = distinct(users);
        let (mut served, mut targets, mut unknown) = (HashSet::new(), Vec::new(), Vec::new());
        for (at, user) in users.iter().enumerate() {
            for session in self.served_without_link(user) {
                if session.sink().push(&push).is_ok() {
                    served.insert(at);
                }
            }
            let cached = self.locations.lock().get(user);
            match cached {
                Some(place) => targets.extend(Target::all(at, &[place])),
                None => unknown.push(at),
            }
        }
        let metrics = &self.context.metrics;
        metrics
            .cached
            .increment((users.len() - unknown.len()) as u64);
        // Those that are not where they were are looked up, with those that were never found.
        let (moved, _) = self.push_to(&users, targets, &push).await;
        unknown.extend(moved);
        if unknown.is_empty() {
            return (Vec::new(), None);
        }
        // Apart, because its future is large, and it is rare.
        Box::pin(self.find_and_push(&users, unknown, &push, &served)).await
    }

    /// Looks for users, by their places in the list, and pushes to them. Those that are `served` for
    /// gates without links are not missed.
    async fn find_and_push(
        &self,
        users: &[UserId],
        unknown: Vec<usize>,
        push: &Push<'_>,
        served: &HashSet<usize>,
    ) -> Missed {
        let asked = unknown.iter().map(|at| users[*at].clone()).collect();
        let found = self.find(asked).await;
        // In the order in which they were asked for.
        let mut places = found.places.into_iter().peekable();
        let (mut targets, mut missed) = (Vec::new(), Vec::new());
        for at in unknown {
            match places.next_if(|(user, _)| *user == users[at]) {
                Some((_, places)) => targets.extend(Target::all(at, &places)),
                None => missed.push(at),
            }
        }
        let (gone, failed) = self.push_to(users, targets, push).await;
        missed.extend(gone);
        missed.retain(|at| !served.contains(at));
        self.context.metrics.missed.increment(missed.len() as u64);
        let error = found.error.or(failed).filter(|_| !missed.is_empty());
        let missed = missed.into_iter().map(|at| users[at].clone());
        (missed.collect(), error)
    }

    /// Kicks all sessions of a user. Returns whether there was one.
    ///
    /// # Errors
    /// Of a node that could not be asked, when no other has the user.
    pub(super) async fn kick(&self, user: UserId, kick: Kick) -> Result<bool> {
        let served: Vec<_> = self.served_without_link(&user).collect();
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
    fn served_without_link(&self, user: &UserId) -> impl Iterator<Item = Session> + use<> {
        let sessions = &self.context.sessions;
        sessions.of_user(user, |session| CompatSession::is(&*session.sink))
    }

    /// Asks the owners of users, and adds what this node serves itself. Keeps where those are that have
    /// one session, by a login.
    ///
    /// Asks all gates for users whose owners do not answer, and for all without numbered views.
    async fn find(&self, users: Vec<UserId>) -> Found {
        self.context.metrics.looked_up.increment(users.len() as u64);
        let mut places = vec![Vec::new(); users.len()];
        let mut alone = HashSet::new();
        let left = match self.directory.owners(&users) {
            Some(owners) => {
                let found = (&mut places[..], &mut alone);
                self.ask_owners(&users, owners, found).await
            }
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
        for (at, (user, mut places)) in users.into_iter().zip(places).enumerate() {
            self.add_own(&user, &mut places);
            match &places[..] {
                // None can be opened beside it that its gate would not know of.
                [only] if alone.contains(&at) => locations.insert(user.clone(), only.clone()),
                _ => locations.forget(&user),
            }
            if !places.is_empty() {
                found.places.push((user, places));
            }
        }
        self.context.metrics.locations.set(locations.len() as f64);
        found
    }

    /// Asks the owners of users, and notes where these are and which have one session by a login.
    /// Returns the users, by their place in the list, that are left to ask for.
    async fn ask_owners(
        &self,
        users: &[UserId],
        owners: HashMap<NodeId, Vec<usize>>,
        (places, alone): (&mut [Vec<Place>], &mut HashSet<usize>),
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
                if answer.alone {
                    alone.insert(at);
                }
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

    /// Pushes to users where they are known to be. Returns those that no gate had, by their places in
    /// the list, and forgets where they were; and why a gate could not be reached.
    async fn push_to(
        &self,
        users: &[UserId],
        mut targets: Vec<Target>,
        push: &Push<'_>,
    ) -> (Vec<usize>, Option<Error>) {
        // A gate pushes to all sessions that a user has on the stream.
        targets.sort_unstable();
        targets.dedup();
        // All frames are sent before the first one is waited for.
        let sent: Vec<_> = targets
            .chunk_by(Target::share_a_frame)
            .map(|frame| (self.send(users, frame, push), frame))
            .collect();
        self.context
            .metrics
            .push_frames
            .increment(sent.len() as u64);
        let (mut unreached, mut failed) = (Vec::new(), None);
        for (sent, frame) in sent {
            let missed = match sent {
                Ok(ended) => ended.await.unwrap_or_else(|_| Err(stopped())),
                Err(error) => Err(error),
            };
            let missed = missed.unwrap_or_else(|error| {
                failed = Some(error);
                (0..frame.len()).collect()
            });
            unreached.extend(missed.into_iter().filter_map(|at| frame.get(at)));
        }
        if unreached.is_empty() {
            return (Vec::new(), None);
        }
        let unreached: HashSet<_> = unreached.into_iter().collect();
        let moved: BTreeSet<_> = unreached.iter().map(|target| target.user).collect();
        let mut locations = self.locations.lock();
        moved.iter().for_each(|at| locations.forget(&users[*at]));
        // At another gate, or on the other stream.
        let reached = targets.iter().filter(|target| !unreached.contains(target));
        let reached: HashSet<_> = reached.map(|target| target.user).collect();
        let missed = moved.into_iter().filter(|at| !reached.contains(at));
        (missed.collect(), failed)
    }

    /// Sends a frame. What is returned is sent the end of the push.
    fn send(
        &self,
        users: &[UserId],
        frame: &[Target],
        push: &Push<'_>,
    ) -> Result<oneshot::Receiver<Unreached>> {
        let Target { gate, stream, .. } = frame.first().ok_or_else(stopped)?;
        let users = frame.iter().map(|target| &users[target.user]);
        let caller = &self.context.caller;
        if **gate != *caller.own_address() {
            return caller.push_to_users((gate, *stream), users, push);
        }
        let is_missed = |user: &UserId| {
            let chosen = |id| stream_index(id) == *stream;
            !self.context.sessions.push_to_user(user, chosen, push)
        };
        let missed = users.enumerate().filter(|(_, user)| is_missed(user));
        let (done, ended) = oneshot::channel();
        // The receiver is here.
        let _ = done.send(Ok(missed.map(|(at, _)| at).collect()));
        Ok(ended)
    }
}

/// A user, by its place in a list, at a gate and on a stream to it.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Target {
    gate: Arc<str>,
    stream: usize,
    user: usize,
}

impl Target {
    fn all(user: usize, places: &[Place]) -> impl Iterator<Item = Self> {
        places.iter().map(move |place| Self {
            gate: place.gate.clone(),
            stream: stream_index(place.session),
            user,
        })
    }

    fn share_a_frame(&self, other: &Self) -> bool {
        (&self.gate, self.stream) == (&other.gate, other.stream)
    }
}

/// The users without those that come twice.
fn distinct(users: &[UserId]) -> Cow<'_, [UserId]> {
    if let [_] = users {
        return users.into();
    }
    let mut seen = HashSet::new();
    let first = users.iter().filter(|user| seen.insert(*user));
    first.cloned().collect()
}

fn stopped() -> Error {
    Error::new(code::UNAVAILABLE, "the node has stopped")
}
