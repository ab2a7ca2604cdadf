//! The traits of filters.

use std::{fmt, pin::Pin, sync::Arc};

use super::{
    context::{Context, Flow, Outcome},
    route::Route,
};
use crate::error::Result;

/// Runs before and after handlers, and never waits.
///
/// It must return soon: it holds the handler's scheduler. See the [module](crate::filter) for the
/// order, and for what happens when it panics.
///
/// ```
/// use nano::filter::{Context, Filter, Flow, Outcome};
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// /// Counts the handlers that run.
/// #[derive(Default)]
/// struct Running(AtomicUsize);
///
/// impl Filter for Running {
///     fn before(&self, _: &mut Context<'_>) -> nano::Result<Flow> {
///         self.0.fetch_add(1, Ordering::Relaxed);
///         Ok(Flow::Continue)
///     }
///
///     fn after(&self, _: &Context<'_>, _: &mut Outcome<'_>) {
///         self.0.fetch_sub(1, Ordering::Relaxed);
///     }
/// }
/// ```
pub trait Filter: Send + Sync + 'static {
    /// Runs before the handler. May change the message, limit the handler's time, or answer.
    ///
    /// # Errors
    /// An error refuses the message: the request is answered with it.
    fn before(&self, _call: &mut Context<'_>) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// Runs after the handler, before its reply is encoded. May change the reply or the error.
    fn after(&self, _call: &Context<'_>, _outcome: &mut Outcome<'_>) {}

    /// Decides at start whether and how the filter is installed on a route.
    ///
    /// # Errors
    /// An error keeps the node from starting.
    fn for_route(&self, _route: &mut Route<'_>) -> Result<Install> {
        Ok(Install::Keep)
    }
}

/// Runs before and after handlers, and may wait before them.
///
/// While it waits, the session's later messages and its close callbacks wait too. Otherwise like
/// [`Filter`].
///
/// ```
/// use nano::{Error, Result, code, filter::{AsyncFilter, Context, Flow}};
///
/// struct NotBanned;
///
/// impl AsyncFilter for NotBanned {
///     async fn before(&self, call: &mut Context<'_>) -> Result<Flow> {
///         if is_banned(call.session().uid()).await? {
///             return Err(Error::new(code::FORBIDDEN, "banned"));
///         }
///         Ok(Flow::Continue)
///     }
/// }
/// # async fn is_banned(uid: i64) -> Result<bool> { Ok(uid < 0) }
/// ```
pub trait AsyncFilter: Send + Sync + 'static {
    /// Runs before the handler. Each poll is a turn of the handler's scheduler.
    ///
    /// # Errors
    /// An error refuses the message: the request is answered with it.
    fn before(&self, call: &mut Context<'_>) -> impl Future<Output = Result<Flow>> + Send;

    /// Runs after the handler, before its reply is encoded. May change the reply or the error.
    fn after(&self, _call: &Context<'_>, _outcome: &mut Outcome<'_>) {}

    /// Decides at start whether and how the filter is installed on a route.
    ///
    /// # Errors
    /// An error keeps the node from starting.
    fn for_route(&self, _route: &mut Route<'_>) -> Result<Install> {
        Ok(Install::Keep)
    }
}

/// How a filter is installed on one route.
#[derive(Debug)]
pub enum Install {
    /// The filter itself, which all its routes share.
    Keep,
    /// Not on this route, which then pays nothing for it.
    Skip,
    /// Another filter in its place, made for this route.
    Replace(AnyFilter),
}

impl Install {
    /// Another filter in its place, made for this route.
    pub fn replace<Kind>(filter: impl IntoFilter<Kind>) -> Self {
        Self::Replace(filter.into_filter())
    }
}

/// A filter with its type erased.
#[derive(Clone)]
pub enum AnyFilter {
    #[doc(hidden)]
    Sync(Arc<dyn Filter>),
    #[doc(hidden)]
    Async(Arc<dyn ErasedAsyncFilter>),
}

impl AnyFilter {
    pub(super) fn for_route(&self, route: &mut Route<'_>) -> Result<Install> {
        match self {
            Self::Sync(filter) => filter.for_route(route),
            Self::Async(filter) => filter.for_route_erased(route),
        }
    }
}

impl fmt::Debug for AnyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync(_) => "Filter",
            Self::Async(_) => "AsyncFilter",
        })
    }
}

/// A value that can be installed: a [`Filter`], an [`AsyncFilter`], or an `Arc` of a [`Filter`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a filter",
    label = "`impl Filter` or `impl AsyncFilter` is missing",
    note = "a closure becomes a filter by `filter::before`, `filter::after` or `filter::validate`"
)]
pub trait IntoFilter<Kind> {
    #[doc(hidden)]
    fn into_filter(self) -> AnyFilter;
}

/// Marks filters that never wait.
#[derive(Debug)]
pub enum SyncKind {}

/// Marks filters that may wait.
#[derive(Debug)]
pub enum AsyncKind {}

impl<F: Filter> IntoFilter<SyncKind> for F {
    fn into_filter(self) -> AnyFilter {
        AnyFilter::Sync(Arc::new(self))
    }
}

impl<F: AsyncFilter> IntoFilter<AsyncKind> for F {
    fn into_filter(self) -> AnyFilter {
        AnyFilter::Async(Arc::new(self))
    }
}

/// So that a filter can be shared by several places, and with the program.
impl<F: Filter> Filter for Arc<F> {
    fn before(&self, call: &mut Context<'_>) -> Result<Flow> {
        F::before(self, call)
    }

    fn after(&self, call: &Context<'_>, outcome: &mut Outcome<'_>) {
        F::after(self, call, outcome);
    }

    fn for_route(&self, route: &mut Route<'_>) -> Result<Install> {
        F::for_route(self, route)
    }
}

/// [`AsyncFilter`] as an object.
#[doc(hidden)]
pub trait ErasedAsyncFilter: Send + Sync {
    fn before_erased<'a>(&'a self, call: &'a mut Context<'_>) -> FlowFuture<'a>;

    fn after_erased(&self, call: &Context<'_>, outcome: &mut Outcome<'_>);

    fn for_route_erased(&self, route: &mut Route<'_>) -> Result<Install>;
}

/// What an async filter decides.
pub(super) type FlowFuture<'a> = Pin<Box<dyn Future<Output = Result<Flow>> + Send + 'a>>;

impl<F: AsyncFilter> ErasedAsyncFilter for F {
    fn before_erased<'a>(&'a self, call: &'a mut Context<'_>) -> FlowFuture<'a> {
        Box::pin(self.before(call))
    }

    fn after_erased(&self, call: &Context<'_>, outcome: &mut Outcome<'_>) {
        self.after(call, outcome);
    }

    fn for_route_erased(&self, route: &mut Route<'_>) -> Result<Install> {
        self.for_route(route)
    }
}
