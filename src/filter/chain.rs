//! The filters of one route, outermost first.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use metrics::Counter;

use super::{
    context::{Context, Flow, Outcome},
    route::Route,
    traits::{AnyFilter, Filter, Install},
};
use crate::{
    error::{Error, Result, code},
    panic::catch_panic,
};

/// The text of a filter's panic.
const PANICKED: &str = "a filter panicked";

/// The filters of one route.
#[derive(Default)]
pub(crate) struct Chain {
    stages: Stages,
    /// Whether the queue time of messages is measured.
    measures_queue: bool,
}

/// How the filters of a route run.
#[derive(Default)]
enum Stages {
    #[default]
    None,
    /// None of them waits.
    Sync(Box<[Arc<dyn Filter>]>),
    Async(Box<[AnyFilter]>),
}

impl Chain {
    /// Installs filters on a route.
    ///
    /// # Errors
    /// A filter cannot be installed on it.
    pub(crate) fn install<'a>(
        filters: impl Iterator<Item = &'a AnyFilter>,
        mut route: Route<'_>,
    ) -> Result<Self> {
        let mut installed = Vec::new();
        for filter in filters {
            match filter.for_route(&mut route)? {
                Install::Keep => installed.push(filter.clone()),
                Install::Skip => {}
                Install::Replace(other) => installed.push(other),
            }
        }
        let sync = installed.iter().map(|filter| match filter {
            AnyFilter::Sync(filter) => Some(filter.clone()),
            AnyFilter::Async(_) => None,
        });
        let stages = match sync.collect::<Option<Box<[_]>>>() {
            Some(filters) if filters.is_empty() => Stages::None,
            Some(filters) => Stages::Sync(filters),
            None => Stages::Async(installed.into()),
        };
        Ok(Self {
            stages,
            measures_queue: route.measures_queue,
        })
    }

    /// Whether there is one filter, which never waits.
    #[inline]
    pub(crate) fn is_single(&self) -> bool {
        matches!(&self.stages, Stages::Sync(filters) if filters.len() == 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.stages, Stages::None)
    }

    /// Whether a filter may wait, so that the session's later messages must wait too.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.stages, Stages::Async(_))
    }

    pub(crate) fn measures_queue(&self) -> bool {
        self.measures_queue
    }

    /// Runs `before` of filters that never wait. `entered` counts those that let the message pass.
    ///
    /// Panics with a filter: its caller catches that, for the whole chain and the handler at once, and
    /// ends the message with [`panicked`](Chain::panicked).
    ///
    /// # Errors
    /// A filter refuses the message; [`code::INTERNAL`] for a chain that waits.
    #[inline]
    pub(crate) fn enter(&self, entered: &mut u32, call: &mut Context<'_>) -> Result<Flow> {
        let filters = match &self.stages {
            Stages::None => return Ok(Flow::Continue),
            Stages::Sync(filters) => filters,
            Stages::Async(_) => return Err(Error::new(code::INTERNAL, "the filter has to wait")),
        };
        for filter in filters {
            match filter.before(call)? {
                Flow::Continue => *entered += 1,
                answer @ Flow::Answer(_) => return Ok(answer),
            }
        }
        Ok(Flow::Continue)
    }

    /// Runs `before` of filters that may wait. `entered` counts those that let the message pass.
    ///
    /// # Errors
    /// A filter refuses the message, or panics.
    pub(crate) async fn enter_waiting(
        &self,
        entered: &mut u32,
        call: &mut Context<'_>,
        panics: &Counter,
    ) -> Result<Flow> {
        let enter = async {
            let Stages::Async(filters) = &self.stages else {
                return self.enter(entered, call);
            };
            for filter in filters {
                let flow = match filter {
                    AnyFilter::Sync(filter) => filter.before(call)?,
                    AnyFilter::Async(filter) => filter.before_erased(call).await?,
                };
                match flow {
                    Flow::Continue => *entered += 1,
                    answer @ Flow::Answer(_) => return Ok(answer),
                }
            }
            Ok(Flow::Continue)
        };
        AssertUnwindSafe(enter)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Self::panicked(panics)))
    }

    /// Counts the panic of a filter.
    #[cold]
    pub(crate) fn panicked(panics: &Counter) -> Error {
        panics.increment(1);
        Error::new(code::INTERNAL, PANICKED)
    }

    /// Runs `after` of the filters that were entered, the innermost first.
    ///
    /// Panics with a filter. `entered` counts those that are left then, for
    /// [`leave_caught`](Chain::leave_caught).
    #[inline]
    pub(crate) fn leave(&self, entered: &mut u32, call: &Context<'_>, outcome: &mut Outcome<'_>) {
        while *entered > 0 {
            *entered -= 1;
            self.after(*entered as usize, call, outcome);
        }
    }

    /// [`leave`](Chain::leave) outside of a caller that catches panics: a panic becomes the outcome
    /// that the filters further out see.
    pub(crate) fn leave_caught(
        &self,
        entered: &mut u32,
        call: &Context<'_>,
        outcome: &mut Outcome<'_>,
        panics: &Counter,
    ) {
        while *entered > 0 {
            *entered -= 1;
            let left = catch_panic(panics, PANICKED, || {
                self.after(*entered as usize, call, outcome);
                Ok(())
            });
            if let Err(error) = left {
                outcome.fail(error);
            }
        }
    }

    #[inline]
    fn after(&self, index: usize, call: &Context<'_>, outcome: &mut Outcome<'_>) {
        match &self.stages {
            Stages::None => {}
            Stages::Sync(filters) => filters[index].after(call, outcome),
            Stages::Async(filters) => match &filters[index] {
                AnyFilter::Sync(filter) => filter.after(call, outcome),
                AnyFilter::Async(filter) => filter.after_erased(call, outcome),
            },
        }
    }
}
