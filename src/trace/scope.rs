//! The trace that the running code is part of.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    context::TraceContext,
    span::{OpenSpan, Trace},
};

thread_local! {
    /// The trace of what this thread runs; `None` if it is not sampled.
    static CURRENT: RefCell<Option<Arc<Trace>>> = const { RefCell::new(None) };
    /// Whether there is one. All that code without a trace reads: two instructions, where `CURRENT`,
    /// which has a destructor, takes 20.
    static IS_TRACED: Cell<bool> = const { Cell::new(false) };
}

/// Returns the span that the running code is part of; `None` if its message is not sampled.
///
/// In handlers, in what they spawn on schedulers, and in single timers of them. Its
/// [`Display`](std::fmt::Display) is the `traceparent` header for requests to other systems.
///
/// ```
/// use nano::{Result, Session, trace};
///
/// fn profile(session: &Session, _: ()) -> Result<Vec<(&'static str, String)>> {
///     let mut headers = vec![("accept", "application/json".to_owned())];
///     if let Some(context) = trace::current() {
///         headers.push(("traceparent", context.to_string()));
///     }
///     Ok(headers)
/// }
/// ```
pub fn current() -> Option<TraceContext> {
    current_trace().map(|trace| trace.context.clone())
}

/// Makes a future part of the current trace on whatever thread it is polled, for tasks outside of
/// schedulers.
///
/// ```
/// # async fn save() {}
/// # fn handler() {
/// tokio::spawn(nano::trace::propagate(save()));
/// # }
/// ```
pub fn propagate<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let trace = current_trace();
    async move {
        let mut future = pin!(future);
        poll_fn(|cx| poll_within(trace.as_ref(), future.as_mut(), cx)).await
    }
}

/// The current trace.
#[inline]
pub(crate) fn current_trace() -> Option<Arc<Trace>> {
    if IS_TRACED.get() { read() } else { None }
}

#[cold]
fn read() -> Option<Arc<Trace>> {
    // Of a thread that ends there is none.
    let current = CURRENT.try_with(|current| current.borrow().clone());
    current.ok().flatten()
}

/// Runs code as part of a trace; of the current one, if there is any, for `None`.
#[inline]
pub(crate) fn within<R>(trace: Option<&Arc<Trace>>, run: impl FnOnce() -> R) -> R {
    match trace {
        None => run(),
        Some(trace) => {
            let _restore = Restore(replace(Some(trace.clone())));
            run()
        }
    }
}

/// Runs a task or a timer in a span that has no outcome.
pub(crate) fn within_span<R>(span: OpenSpan, run: impl FnOnce() -> R) -> R {
    within(Some(span.trace()), || span.span().in_scope(run))
}

fn poll_within<F: Future>(
    trace: Option<&Arc<Trace>>,
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    within(trace, || future.poll(cx))
}

fn replace(trace: Option<Arc<Trace>>) -> Option<Arc<Trace>> {
    IS_TRACED.set(trace.is_some());
    CURRENT.replace(trace)
}

/// Puts the trace of the code around back, also when the code inside panics.
struct Restore(Option<Arc<Trace>>);

impl Drop for Restore {
    fn drop(&mut self) {
        replace(self.0.take());
    }
}
