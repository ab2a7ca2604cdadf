//! What a session is bound to and keeps: user, bindings, pins and values.

use tracing::Value;

use super::{
    data::State, extensions::Extensions, handle::Session, router::Router, shared::SharedData,
    user_id::UserId,
};
use crate::{error::Result, metrics::RefusedInput, scheduler::Scheduler, serialize::Serializer};

impl<S: Serializer> Session<S> {
    /// Binds the session to a user, in place of an earlier one: a number, or a text. Several sessions
    /// may share a user.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`](crate::code::BAD_REQUEST) for a number below 1, and for a text that is
    /// empty or over 255 bytes; the refusal of [`App::on_bind`](crate::App::on_bind).
    pub fn bind(&self, user: impl Into<UserId>) -> Result {
        let user = user.into();
        self.check_bind(&user)?;
        self.bind_checked(user);
        Ok(())
    }

    /// Checks that the session may be bound to a user.
    ///
    /// # Errors
    /// As [`bind`](Session::bind).
    pub(crate) fn check_bind(&self, user: &UserId) -> Result {
        user.check()
            .inspect_err(|_| self.input_refused(RefusedInput::User))?;
        match self.inner().table() {
            Some(table) => table.check_bind(&self.typed(), user),
            None => Ok(()),
        }
    }

    /// Counts input of the application that is refused.
    pub(crate) fn input_refused(&self, reason: RefusedInput) {
        if let Some(table) = self.inner().table() {
            table.inputs().count(reason);
        }
    }

    /// The field `user` of log lines about the session, which have none without a user.
    pub(crate) fn logged_user(&self) -> Option<Box<dyn Value>> {
        self.user().map(|user| user.logged())
    }

    /// Binds the session to a user that was checked.
    pub(crate) fn bind_checked(&self, user: UserId) {
        self.inner().sink.bind(&self.typed(), Some(user));
    }

    /// The members that serve the session, by service.
    pub fn router(&self) -> Router<S> {
        Router(self.clone())
    }

    /// The values that all nodes which serve the session share.
    pub fn shared(&self) -> SharedData<S> {
        SharedData(self.clone())
    }

    /// Runs the services registered with the scheduler name `name` on `scheduler` for this session:
    /// a room's or a desk's.
    ///
    /// Replaces an earlier pin of the name. Messages that wait elsewhere keep their order. Names of
    /// pins and keys of data are apart: no change of data touches a pin.
    pub fn pin(&self, name: &str, scheduler: &Scheduler) {
        self.inner().pins.pin(name, scheduler);
    }

    /// Undoes [`pin`](Session::pin), and returns whether it did.
    ///
    /// A pin to another scheduler stays: a room that cleans up late does not unpin the session
    /// from the next one. Requests to services without a pin are answered with
    /// [`code::UNAVAILABLE`](crate::code::UNAVAILABLE).
    pub fn unpin(&self, name: &str, scheduler: &Scheduler) -> bool {
        self.inner().pins.unpin(name, scheduler)
    }

    /// The scheduler a name is [pinned](Session::pin) to.
    pub fn pinned(&self, name: &str) -> Option<Scheduler> {
        self.inner().pins.get(name)
    }

    /// The typed values of the application, at most one of each type.
    pub fn extensions(&self) -> &Extensions {
        &self.inner().extensions
    }

    /// Stores a value under a key.
    pub fn set<T: Send + Sync + 'static>(&self, key: impl Into<String>, value: T) {
        self.inner().data.set(key.into(), value);
    }

    /// A copy of the value under a key; `None` if there is none or it is not a `T`. Store an `Arc`
    /// to share it.
    pub fn value<T: Clone + 'static>(&self, key: &str) -> Option<T> {
        self.inner().data.value(key)
    }

    /// A copy of the value under a key, or the default of `T` where [`value`](Session::value) is
    /// `None`. Go nano's typed getters do this.
    #[doc(alias = "Int")]
    #[doc(alias = "Int64")]
    #[doc(alias = "Uint32")]
    #[doc(alias = "Float64")]
    #[doc(alias = "String")]
    pub fn value_or_default<T: Clone + Default + 'static>(&self, key: &str) -> T {
        self.value(key).unwrap_or_default()
    }

    /// Whether there is a value under a key.
    pub fn has_key(&self, key: &str) -> bool {
        self.inner().data.has_key(key)
    }

    /// Removes the value under a key.
    pub fn remove(&self, key: &str) {
        self.inner().data.remove(key);
    }

    /// A snapshot of the data under keys. Later changes do not affect it.
    pub fn state(&self) -> State {
        self.inner().data.state()
    }

    /// Replaces the data under keys.
    pub fn restore(&self, state: State) {
        self.inner().data.restore(state);
    }

    /// Forgets the user and the data under keys. Extensions, pins, shared values and bindings of the
    /// router stay.
    pub fn clear(&self) {
        self.inner().sink.bind(&self.typed(), None);
        self.inner().data.restore(State::default());
    }
}
