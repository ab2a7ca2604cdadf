//! Which scheduler runs a session's messages for one service.

use crate::{
    error::{Error, Result, code},
    handle::Schedulers,
    scheduler::Scheduler,
    session::Session,
};

/// What [`Options`](super::Options) choose; resolved when the node starts.
#[derive(Clone, Debug, Default)]
pub(super) enum Placement {
    /// The node's default scheduler.
    #[default]
    Default,
    /// The scheduler each session is pinned to under this name.
    Pinned(String),
    /// This many schedulers of the service's own, chosen by session id.
    Spread(usize),
}

/// A [`Placement`] with the schedulers it needs.
#[derive(Debug)]
pub(super) enum ResolvedPlacement {
    Default(Scheduler),
    Pinned(String),
    /// Never empty.
    Spread(Vec<Scheduler>),
}

impl Placement {
    /// Creates the schedulers.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for a spread over 0 schedulers.
    pub(super) fn resolve(
        &self,
        service: &str,
        schedulers: &Schedulers,
    ) -> Result<ResolvedPlacement> {
        match self {
            Self::Default => Ok(ResolvedPlacement::Default(schedulers.default().clone())),
            Self::Pinned(name) => Ok(ResolvedPlacement::Pinned(name.clone())),
            Self::Spread(0) => Err(Error::new(
                code::BAD_REQUEST,
                format!("component {service}: spread over 0 schedulers"),
            )),
            Self::Spread(count) => Ok(ResolvedPlacement::Spread(
                (0..*count)
                    .map(|n| schedulers.create(format!("{service}-{n}")))
                    .collect(),
            )),
        }
    }
}

impl ResolvedPlacement {
    /// Returns the scheduler for the messages of `session`.
    ///
    /// # Errors
    /// [`code::UNAVAILABLE`] when the session is not pinned under the name asked for.
    pub(super) fn scheduler(&self, session: &Session) -> Result<Scheduler> {
        match self {
            Self::Default(scheduler) => Ok(scheduler.clone()),
            Self::Pinned(name) => session.pinned(name).ok_or_else(|| {
                Error::new(
                    code::UNAVAILABLE,
                    format!("the session has no scheduler named {name}"),
                )
            }),
            Self::Spread(schedulers) => {
                Ok(schedulers[session.id().unsigned_abs() as usize % schedulers.len()].clone())
            }
        }
    }
}
