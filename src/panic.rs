//! Panics of hooks, pipelines, filters and callbacks become errors. Those of handlers are caught in
//! `component::invocation` while it polls a future, in `component::filtered` behind filters, and else
//! in `scheduler::executor`, as those of all tasks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use metrics::Counter;

use crate::error::{Error, Result, code};

/// Runs an application's code; a panic is counted in `panics` and becomes an error with the text
/// `panicked` and the code `INTERNAL`.
///
/// The process's panic hook has printed the panic by then. State that `call` shares with others
/// must stay valid when it stops halfway: what this crate hands to applications does.
pub(crate) fn catch_panic<R>(
    panics: &Counter,
    panicked: &'static str,
    call: impl FnOnce() -> Result<R>,
) -> Result<R> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        panics.increment(1);
        Err(Error::new(code::INTERNAL, panicked))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    #[test]
    fn only_a_panic_is_counted_and_becomes_an_error() {
        let count = Arc::new(AtomicU64::new(0));
        let panics = Counter::from_arc(count.clone());
        let counted = || count.load(Ordering::Relaxed);

        assert_eq!(catch_panic(&panics, "panicked", || Ok(1)).ok(), Some(1));
        let refused = || Err::<(), _>(Error::new(code::NOT_FOUND, "no"));
        let error = catch_panic(&panics, "panicked", refused).unwrap_err();
        assert_eq!((error.code(), counted()), (code::NOT_FOUND, 0));

        let error = catch_panic::<()>(&panics, "the hook panicked", || panic!("a test panics"));
        let error = error.unwrap_err();
        assert_eq!(error.code(), code::INTERNAL);
        assert_eq!(error.message(), "the hook panicked");
        assert_eq!(counted(), 1);
    }
}
